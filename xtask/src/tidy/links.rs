//! Links between the Markdown files lead somewhere: the file is tracked and the heading exists. The web is not asked.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

use super::{Report, Tree};

pub fn report(tree: &Tree) -> Result<Report, String> {
    let mut pages = BTreeMap::new();
    for file in tree.with_extension("md") {
        if let Some(text) = tree.text(file)? {
            pages.insert(file, Page::of(&text));
        }
    }
    let tracked: BTreeSet<&Path> = tree.files.iter().flat_map(|file| file.ancestors()).collect();
    let mut report = Report::default();
    let mut links = 0;
    for (file, page) in &pages {
        for (line, target) in &page.links {
            links += 1;
            if let Err(why) = resolve(file, target, &tracked, &pages) {
                report.findings.push(format!("{}:{line}: link to {target}: {why}", file.display()));
            }
        }
    }
    report.summary = format!("{links} links in {} pages", pages.len());
    Ok(report)
}

/// What a Markdown page offers to links and where its own links go.
struct Page {
    anchors: BTreeSet<String>,
    /// Line (from 1) and target of each link that does not leave for the web.
    links: Vec<(usize, String)>,
}

impl Page {
    fn of(text: &str) -> Self {
        let mut page = Self { anchors: BTreeSet::new(), links: Vec::new() };
        let mut fence: Option<&str> = None;
        for (index, line) in text.lines().enumerate() {
            let trimmed = line.trim_start();
            let mark = ["```", "~~~"].into_iter().find(|mark| trimmed.starts_with(mark));
            match (fence, mark) {
                (None, Some(mark)) => fence = Some(mark),
                (Some(open), Some(mark)) if open == mark => fence = None,
                (Some(_), _) => {}
                (None, None) => page.read(index + 1, trimmed),
            }
        }
        page
    }

    fn read(&mut self, number: usize, line: &str) {
        if let Some(heading) = line.strip_prefix('#') {
            let base = slug(heading.trim_start_matches('#'));
            let taken = (0..).map(|n| if n == 0 { base.clone() } else { format!("{base}-{n}") });
            self.anchors.extend(taken.into_iter().find(|name| !self.anchors.contains(name)));
        }
        for (at, _) in line.match_indices("id=\"") {
            self.anchors.extend(line.get(at + 4..).and_then(|rest| rest.split_once('"')).map(|(id, _)| id.to_owned()));
        }
        let prose = without_code(line);
        let inline = prose.match_indices("](").filter_map(|(at, _)| target(prose.get(at + 2..)?));
        let reference =
            prose.strip_prefix('[').and_then(|rest| rest.split_once("]:")).map(|(_, target)| target.trim().to_owned());
        self.links.extend(inline.chain(reference).filter(|target| !is_web(target)).map(|target| (number, target)));
    }
}

/// The target of an inline link whose text after `](` is `rest`; a title behind it is dropped.
fn target(rest: &str) -> Option<String> {
    if let Some(rest) = rest.strip_prefix('<') {
        return rest.split_once('>').map(|(target, _)| target.to_owned());
    }
    let (inside, _) = rest.split_once(')')?;
    inside.split_whitespace().next().map(str::to_owned)
}

fn is_web(target: &str) -> bool {
    ["https://", "http://", "mailto:"].iter().any(|scheme| target.starts_with(scheme))
}

/// `line` without its code spans.
fn without_code(line: &str) -> String {
    line.split('`').enumerate().map(|(index, part)| if index % 2 == 0 { part } else { "" }).collect()
}

/// The anchor that GitHub gives a heading.
fn slug(heading: &str) -> String {
    let kept = heading.trim().chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.flat_map(char::to_lowercase).map(|c| if c == ' ' { '-' } else { c }).collect()
}

fn resolve(from: &Path, target: &str, tracked: &BTreeSet<&Path>, pages: &BTreeMap<&Path, Page>) -> Result<(), String> {
    let (path, anchor) = target.split_once('#').unwrap_or((target, ""));
    let file = if path.is_empty() { from.to_owned() } else { beside(from, path)? };
    if !tracked.contains(file.as_path()) {
        return Err(format!("{} is not a tracked file or folder", file.display()));
    }
    match pages.get(file.as_path()) {
        Some(page) if !anchor.is_empty() && !page.anchors.contains(anchor) => {
            Err(format!("{} has no heading `#{anchor}`", file.display()))
        }
        _ => Ok(()),
    }
}

/// `path` as seen from the folder of `from`, without `.` and `..`.
fn beside(from: &Path, path: &str) -> Result<PathBuf, String> {
    let mut parts: Vec<Component<'_>> = from.parent().into_iter().flat_map(Path::components).collect();
    for part in Path::new(path).components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir if parts.pop().is_none() => return Err("it leaves the repository".to_owned()),
            Component::ParentDir => {}
            Component::Normal(_) => parts.push(part),
            Component::RootDir | Component::Prefix(_) => {
                return Err("it is absolute: write it relative to this page".to_owned());
            }
        }
    }
    Ok(parts.iter().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &[&str]) {
        let targets: Vec<_> = Page::of(text).links.into_iter().map(|(_, target)| target).collect();
        assert_eq!(targets, expected, "in {text:?}");
    }

    #[test]
    fn links_are_found_where_markdown_has_them() {
        check(
            "see [a](docs/a.md) and [b](<b c.md> \"title\")\n[ref]: ../c.md#x\n",
            &["docs/a.md", "b c.md", "../c.md#x"],
        );
        check("![picture](p.png \"title\") [web](https://example.org)\n", &["p.png"]);
        check(
            "`[not](a.md)` and\n```sh\n[nor](this.md)\n```\n~~~\n[nor](this.md)\n```\n~~~\n[but](that.md)\n",
            &["that.md"],
        );
    }

    #[test]
    fn anchors_are_those_of_github() {
        let page = Page::of("# What, then?\n## Wire format v0\n## Wire format v0\n");
        let anchors: Vec<_> = page.anchors.iter().map(String::as_str).collect();
        assert_eq!(anchors, ["what-then", "wire-format-v0", "wire-format-v0-1"]);
    }

    #[test]
    fn a_link_must_lead_to_a_tracked_file_and_heading() {
        let (readme, guide) = (Path::new("README.md"), Path::new("docs/guide.md"));
        let pages = BTreeMap::from([(readme, Page::of("# Top\n")), (guide, Page::of("# Start\n"))]);
        let tracked: BTreeSet<&Path> = [readme, guide].into_iter().flat_map(Path::ancestors).collect();
        let go = |from, target| resolve(from, target, &tracked, &pages).is_ok();
        assert!(
            go(readme, "docs/guide.md#start")
                && go(guide, "../README.md")
                && go(guide, "#start")
                && go(readme, "docs/")
        );
        assert!(
            !go(readme, "docs/gone.md")
                && !go(guide, "#gone")
                && !go(guide, "../../x.md")
                && !go(readme, "/docs/guide.md")
        );
    }
}
