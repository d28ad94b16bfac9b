//! What would change in a text, as a unified diff that is harmless to show and bounded.

use crate::proposal::for_display;

/// Lines shown around a change.
const CONTEXT: usize = 3;
/// Edits that are looked for line by line; more than that, and what lies between the first and the last change is shown as
/// replaced. Bounds the memory to 4 MiB.
const EDITS_MAX: usize = 512;
/// Bytes of one line that are shown.
const LINE_BYTES_MAX: usize = 512;
/// Room for the line that says how much is left out.
const TAIL_BYTES: usize = 80;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Edit {
    Keep,
    Remove,
    Add,
}

/// The change from `old` to `new`, none being a file that is not there. At most `bytes_max` bytes; no control character but the
/// end of a line. Backslashes are doubled, so that an escaped character cannot be mistaken for one that stands in the file.
pub(super) fn unified(old: Option<&str>, new: Option<&str>, name: &str, bytes_max: usize) -> String {
    let title = |text: Option<&str>, side| text.map_or("/dev/null".to_owned(), |_| format!("{side}/{name}"));
    let mut out = format!("--- {}\n+++ {}\n", title(old, 'a'), title(new, 'b'));
    let lines = |text: Option<&str>| text.unwrap_or_default().split_inclusive('\n').map(str::to_owned).collect();
    let (old, new): (Vec<String>, Vec<String>) = (lines(old), lines(new));
    if old == new {
        out.push_str("(nothing changes)\n");
        return out;
    }
    let script = script(&old, &new);
    let shown = hunks(&script, &old, &new);
    let whole: usize = shown.iter().map(String::len).sum();
    let room = bytes_max.saturating_sub(out.len());
    let mut left = if whole <= room { room } else { room.saturating_sub(TAIL_BYTES) };
    for (n, line) in shown.iter().enumerate() {
        if line.len() > left {
            out.push_str(&format!("(and {} more lines of this diff)\n", shown.len() - n));
            break;
        }
        left -= line.len();
        out.push_str(line);
    }
    out
}

fn hunks(script: &[Edit], old: &[String], new: &[String]) -> Vec<String> {
    let mut out = Vec::new();
    let changed: Vec<usize> = (0..script.len()).filter(|i| script[*i] != Edit::Keep).collect();
    let mut from = 0;
    while let Some(first) = changed.iter().find(|i| **i >= from).copied() {
        let mut last = first;
        for next in changed.iter().filter(|i| **i > first) {
            if *next > last + 2 * CONTEXT {
                break;
            }
            last = *next;
        }
        let range = first.saturating_sub(CONTEXT)..(last + CONTEXT + 1).min(script.len());
        let count = |upto: usize, not: Edit| script[..upto].iter().filter(|e| **e != not).count();
        let (a, b) = (count(range.start, Edit::Add), count(range.start, Edit::Remove));
        let (a_len, b_len) = (count(range.end, Edit::Add) - a, count(range.end, Edit::Remove) - b);
        let start = |at: usize, len: usize| if len == 0 { at } else { at + 1 };
        out.push(format!("@@ -{},{a_len} +{},{b_len} @@\n", start(a, a_len), start(b, b_len)));
        let (mut a, mut b) = (a, b);
        for edit in &script[range.clone()] {
            let (sign, line) = match edit {
                Edit::Keep => (' ', &old[a]),
                Edit::Remove => ('-', &old[a]),
                Edit::Add => ('+', &new[b]),
            };
            a += usize::from(*edit != Edit::Add);
            b += usize::from(*edit != Edit::Remove);
            let body = line.strip_suffix('\n');
            let shown = for_display(body.unwrap_or(line).as_bytes(), LINE_BYTES_MAX);
            out.push(format!("{sign}{shown}\n"));
            if body.is_none() {
                out.push("\\ No newline at end of file\n".to_owned());
            }
        }
        from = range.end;
    }
    out
}

/// The shortest way from `old` to `new` where it is short, after E. Myers, "An O(ND) Difference Algorithm" (1986).
fn script(old: &[String], new: &[String]) -> Vec<Edit> {
    let head = old.iter().zip(new).take_while(|(a, b)| a == b).count();
    let (old, new) = (&old[head..], &new[head..]);
    let tail = old.iter().rev().zip(new.iter().rev()).take_while(|(a, b)| a == b).count();
    let (old, new) = (&old[..old.len() - tail], &new[..new.len() - tail]);
    let middle = shortest(old, new).unwrap_or_else(|| {
        let (gone, come) = (old.iter().map(|_| Edit::Remove), new.iter().map(|_| Edit::Add));
        gone.chain(come).collect()
    });
    let keep = |n| std::iter::repeat_n(Edit::Keep, n);
    keep(head).chain(middle).chain(keep(tail)).collect()
}

fn shortest(old: &[String], new: &[String]) -> Option<Vec<Edit>> {
    let most = (old.len() + new.len()).min(EDITS_MAX);
    // furthest[k + most]: how far into `old` one gets on the diagonal k with the edits so far.
    let mut furthest = vec![0usize; 2 * most + 3];
    let at = |k: isize| usize::try_from(k + most as isize + 1).unwrap_or(0);
    let mut rounds: Vec<Vec<usize>> = Vec::new();
    for edits in 0..=most as isize {
        rounds.push(furthest.clone());
        for k in (-edits..=edits).step_by(2) {
            let down = k == -edits || (k != edits && furthest[at(k - 1)] < furthest[at(k + 1)]);
            let mut x = if down { furthest[at(k + 1)] } else { furthest[at(k - 1)] + 1 };
            let Ok(mut y) = usize::try_from(x as isize - k) else { continue };
            while x < old.len() && y < new.len() && old[x] == new[y] {
                (x, y) = (x + 1, y + 1);
            }
            furthest[at(k)] = x;
            if x == old.len() && y == new.len() {
                return Some(walk_back(&rounds, old.len(), new.len(), at));
            }
        }
    }
    None
}

fn walk_back(rounds: &[Vec<usize>], old: usize, new: usize, at: impl Fn(isize) -> usize) -> Vec<Edit> {
    let mut edits = Vec::new();
    let (mut x, mut y) = (old as isize, new as isize);
    for (d, furthest) in rounds.iter().enumerate().rev() {
        let (k, d) = (x - y, d as isize);
        let down = k == -d || (k != d && furthest[at(k - 1)] < furthest[at(k + 1)]);
        let before = if down { k + 1 } else { k - 1 };
        let (px, py) =
            if d == 0 { (0, 0) } else { (furthest[at(before)] as isize, furthest[at(before)] as isize - before) };
        while x > px && y > py {
            edits.push(Edit::Keep);
            (x, y) = (x - 1, y - 1);
        }
        if d > 0 {
            edits.push(if down { Edit::Add } else { Edit::Remove });
        }
        (x, y) = (px, py);
    }
    edits.reverse();
    edits
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;
    use proptest::prelude::*;

    fn apply(script: &[Edit], old: &[String], new: &[String]) -> (Vec<String>, Vec<String>) {
        let (mut a, mut b, mut x, mut y) = (vec![], vec![], 0, 0);
        for edit in script {
            if *edit != Edit::Add {
                a.push(old[x].clone());
                x += 1;
            }
            if *edit == Edit::Keep {
                assert_eq!(old[x - 1], new[y]);
            }
            if *edit != Edit::Remove {
                b.push(new[y].clone());
                y += 1;
            }
        }
        (a, b)
    }

    #[test]
    fn it_reads_as_everybody_knows_it() {
        let old = "a\nb\nc\nd\ne\nf\ng\nh\ni\nj\nk\n";
        let new = "a\nb\nC\nd\ne\nf\ng\nh\ni\nj\nk\nl";
        expect![[r#"
            --- a/x.conf
            +++ b/x.conf
            @@ -1,6 +1,6 @@
             a
             b
            -c
            +C
             d
             e
             f
            @@ -9,3 +9,4 @@
             i
             j
             k
            +l
            \ No newline at end of file
        "#]]
        .assert_eq(&unified(Some(old), Some(new), "x.conf", 4096));
        expect![[r#"
            --- /dev/null
            +++ b/x
            @@ -0,0 +1,1 @@
            +a\u{1b}[2J\\n
        "#]]
        .assert_eq(&unified(None, Some("a\u{1b}[2J\\n\n"), "x", 4096));
        expect![[r#"
            --- a/x
            +++ /dev/null
            @@ -1,1 +0,0 @@
            -a
        "#]]
        .assert_eq(&unified(Some("a\n"), None, "x", 4096));
        assert!(unified(Some("a"), Some("a"), "x", 4096).ends_with("(nothing changes)\n"));
    }

    #[test]
    fn what_does_not_fit_is_counted() {
        let new: String = (0..2000).map(|n| format!("line {n}\n")).collect();
        let text = unified(None, Some(&new), "x", 1024);
        assert!(text.len() <= 1024 && text.ends_with(" more lines of this diff)\n"), "{text}");
    }

    proptest! {
        #[test]
        fn a_script_leads_from_the_one_to_the_other(old in proptest::collection::vec("[abc]", 0..40), new in proptest::collection::vec("[abc]", 0..40)) {
            let script = script(&old, &new);
            prop_assert_eq!(apply(&script, &old, &new), (old, new));
        }

        #[test]
        fn it_is_bounded_and_harmless(old in ".{0,300}", new in ".{0,300}", max in 200usize..2000) {
            let text = unified(Some(&old), Some(&new), "x", max);
            prop_assert!(text.len() <= max);
            prop_assert!(text.chars().all(|c| c == '\n' || !c.is_control()));
        }
    }
}
