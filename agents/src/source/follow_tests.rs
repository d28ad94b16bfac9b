use std::fs;
use std::io::Write;

use proptest::prelude::*;

use super::*;

/// Everything the polls tell until nothing more comes, in short words.
fn drain(follower: &mut FileFollower) -> Vec<String> {
    let mut told = Vec::new();
    let mut sink = |event: SourceEvent<'_>| {
        told.push(match event {
            SourceEvent::Line(l) => format!("{}:{}", l.line_no, String::from_utf8_lossy(l.bytes)),
            SourceEvent::TooLong { len, at } => format!("{}: too long, {len}", at.line_no),
            SourceEvent::Missing { why, .. } => format!("missing: {why}"),
            SourceEvent::Recovered { .. } => "recovered".into(),
            SourceEvent::Rotated { .. } => "rotated".into(),
            SourceEvent::Truncated { .. } => "truncated".into(),
        });
    };
    while follower.poll(&mut sink) == Polled::More {}
    told
}

fn append(path: &Path, text: &str) {
    let mut file = OpenOptions::new().append(true).create(true).open(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

#[test]
fn a_log_file_through_its_life() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("auth.log");
    let rotated = dir.path().join("auth.log.1");
    let mut follower = FileFollower::new(&path, None);

    assert_eq!(drain(&mut follower), ["missing: No such file or directory (os error 2)"]);
    assert_eq!(drain(&mut follower), [""; 0], "told once");
    append(&path, "a\nb\npart");
    assert_eq!(drain(&mut follower), ["recovered", "1:a", "2:b"]);
    append(&path, "ial\n");
    assert_eq!(drain(&mut follower), ["3:partial"]);

    // Rename and create; the old writer still writes a last line without its end.
    fs::rename(&path, &rotated).unwrap();
    append(&rotated, "late\nunfinished");
    assert_eq!(drain(&mut follower), ["4:late", "missing: No such file or directory (os error 2)"]);
    append(&rotated, " too");
    append(&path, "new\n");
    assert_eq!(drain(&mut follower), ["5:unfinished too", "recovered", "rotated", "1:new"]);

    // copytruncate
    fs::write(&path, "x\n").unwrap();
    assert_eq!(drain(&mut follower), ["truncated", "1:x"]);
    // Replaced without a gap.
    fs::write(dir.path().join("tmp"), "y\n").unwrap();
    fs::rename(dir.path().join("tmp"), &path).unwrap();
    assert_eq!(drain(&mut follower), ["rotated", "1:y"]);
}

#[test]
fn a_file_that_was_emptied_and_has_outgrown_the_old_place_is_read_from_its_beginning() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("auth.log");
    append(&path, "a\nb\n");
    let mut follower = FileFollower::new(&path, None);
    assert_eq!(drain(&mut follower), ["1:a", "2:b"]);
    // Longer, as long as before, and with a place in the middle of a line.
    for (text, told) in [
        ("c\nd\ne\n", vec!["truncated", "1:c", "2:d", "3:e"]),
        ("f\ng\nh\n", vec!["truncated", "1:f", "2:g", "3:h"]),
        ("one long line\n", vec!["truncated", "1:one long line"]),
    ] {
        fs::write(&path, text).unwrap();
        assert_eq!(drain(&mut follower), told);
        assert_eq!(drain(&mut follower), [""; 0]);
    }
    let long = "x".repeat(3 * TAIL_BYTES);
    append(&path, &format!("{long}\n"));
    assert_eq!(drain(&mut follower), [format!("2:{long}")]);
}

#[test]
fn what_was_written_between_the_last_read_and_the_rotation_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("auth.log");
    append(&path, "a\n");
    let mut follower = FileFollower::new(&path, None);
    assert_eq!(drain(&mut follower), ["1:a"]);
    append(&path, "late\n");
    fs::rename(&path, dir.path().join("auth.log.1")).unwrap();
    append(&path, "new\n");
    let mut lines = Vec::new();
    let polled = follower.switch(&mut |event| {
        if let SourceEvent::Line(line) = event {
            lines.push(line.bytes.to_vec());
        }
    });
    assert_eq!((polled, lines), (Polled::More, vec![b"late".to_vec()]));
    assert_eq!(drain(&mut follower), ["1:new"]);
}

#[test]
fn only_regular_files_are_read_and_nothing_blocks() {
    let dir = tempfile::tempdir().unwrap();
    let mut follower = FileFollower::new(dir.path(), None);
    assert_eq!(drain(&mut follower), ["missing: it is a directory; name a regular file"]);

    let fifo = dir.path().join("fifo");
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    let mut follower = FileFollower::new(&fifo, None);
    assert_eq!(drain(&mut follower), ["missing: it is a FIFO; name a regular file"]);
    // Then a directory, then a file: each reason is told once.
    fs::remove_file(&fifo).unwrap();
    fs::create_dir(&fifo).unwrap();
    assert_eq!(drain(&mut follower), ["missing: it is a directory; name a regular file"]);
    fs::remove_dir(&fifo).unwrap();
    append(&fifo, "ok\n");
    assert_eq!(drain(&mut follower), ["recovered", "1:ok"]);
}

#[test]
fn a_file_that_may_not_be_read_says_what_to_do_once() {
    // Root may read everything, so the system's refusal is given by hand.
    let mut follower = FileFollower::new("auth.log", None);
    let mut told = Vec::new();
    for _ in 0..2 {
        let denied = io::Error::from_raw_os_error(13);
        follower.trouble(Trouble::Io(denied.kind()), &denied.to_string(), &mut |event| {
            if let SourceEvent::Missing { why, .. } = event {
                told.push(why);
            }
        });
    }
    assert_eq!(told, ["Permission denied (os error 13); give this node's user read access to it"]);
}

#[test]
fn long_lines_are_skipped_and_told() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("auth.log");
    append(&path, &format!("a\n{}\nb\n", "x".repeat(10_000_000)));
    assert_eq!(drain(&mut FileFollower::new(&path, None)), ["1:a", "2: too long, 10000000", "3:b"]);
}

#[test]
fn a_checkpoint_resumes_where_it_stands() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("auth.log");
    append(&path, "a\nb\nc\nunfin");
    let mut follower = FileFollower::new(&path, None);
    assert_eq!(follower.checkpoint(None), None);
    assert_eq!(drain(&mut follower), ["1:a", "2:b", "3:c"]);
    let end = follower.checkpoint(None).unwrap();
    let second = follower.checkpoint(Some(Position { offset: 2, line_no: 2 })).unwrap();
    append(&path, "ished\n");

    let resumed = |at| drain(&mut FileFollower::new(&path, Some(at)));
    assert_eq!(resumed(end), ["4:unfinished"]);
    assert_eq!(resumed(second), ["2:b", "3:c", "4:unfinished"]);
    assert_eq!(resumed(Checkpoint { offset: 1 << 40, ..end }), ["truncated", "1:a", "2:b", "3:c", "4:unfinished"]);
    assert_eq!(
        resumed(Checkpoint { offset: 3, ..end }),
        ["truncated", "1:a", "2:b", "3:c", "4:unfinished"],
        "not what stood before the place"
    );
    fs::write(&path, "x\ny\nz\nlonger than before\n").unwrap();
    assert_eq!(resumed(end), ["truncated", "1:x", "2:y", "3:z", "4:longer than before"], "emptied while nobody looked");
    assert_eq!(resumed(Checkpoint { inode: end.inode ^ 1, ..end })[0], "rotated");
}

#[test]
fn decisions() {
    let (a, b) = (FileId { dev: 1, inode: 1 }, FileId { dev: 1, inode: 2 });
    assert_eq!(decide(a, 10, 10, Some(a)), Next::Stay);
    assert_eq!(decide(a, 10, 20, None), Next::Stay);
    assert_eq!(decide(a, 10, 9, Some(a)), Next::StartOver);
    assert_eq!(decide(a, 10, 9, Some(b)), Next::Switch, "the new file is the one that matters");
}

#[derive(Clone, Debug)]
enum Step {
    Append(String),
    Poll,
    Rotate,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => "[a-c\n]{0,6}".prop_map(Step::Append),
        3 => Just(Step::Poll),
        1 => Just(Step::Rotate),
    ];
    proptest::collection::vec(step, 0..40)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// Across rotations no line is lost, doubled or torn, whenever we look.
    #[test]
    fn every_line_comes_once(steps in steps()) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("auth.log");
        append(&path, "");
        let mut follower = FileFollower::new(&path, None);
        let mut told = drain(&mut follower);
        let (mut expected, mut current, mut generation) = (Vec::new(), String::new(), 0);
        let numbered = |text: &str| (1..).zip(text.lines()).map(|(n, l)| format!("{n}:{l}")).collect::<Vec<_>>();
        for step in steps {
            match step {
                Step::Append(text) => {
                    append(&path, &text);
                    current.push_str(&text);
                }
                Step::Poll => told.extend(drain(&mut follower)),
                Step::Rotate => {
                    generation += 1;
                    fs::rename(&path, dir.path().join(generation.to_string())).unwrap();
                    append(&path, "");
                    told.extend(drain(&mut follower));
                    expected.extend(numbered(&current));
                    expected.push("rotated".into());
                    current.clear();
                }
            }
        }
        append(&path, "\n");
        current.push('\n');
        told.extend(drain(&mut follower));
        expected.extend(numbered(&current));
        prop_assert_eq!(told, expected);
    }
}
