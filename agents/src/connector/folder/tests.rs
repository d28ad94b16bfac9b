use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};

use cauldron_coordinator::action::Catalogue;
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::connector::Probe;

/// Every point around an effect, in order.
const POINTS: [&str; 5] = ["effect.staged", "effect.before", "effect.moved", "effect.after", "effect.noted"];

fn node(name: &str) -> SpiffeId {
    format!("spiffe://demo.cauldron.internal/site/{name}/node/{name}").parse().unwrap()
}

fn action(operation: &str, path: &str, text: Option<&str>) -> Action {
    let mut args = json!({ "path": path });
    if let Some(text) = text {
        args["text"] = text.into();
    }
    if operation == OP_FILE_DELETE {
        args["reason"] = "not needed".into();
    }
    Action::new(Catalogue::built_in(), operation, Some(NAME), &args).unwrap()
}

fn write(path: &str, text: &str) -> Action {
    action(OP_FILE_WRITE, path, Some(text))
}

fn open(path: &Path) -> Folder {
    Folder::open(path, &node("lyon"), Box::new(|_| {})).unwrap()
}

fn of(text: &str) -> String {
    version(Some(text.as_bytes()))
}

impl Folder {
    fn act(&self, action: &Action, key: &str, permit: &str, expected: &str) -> Result<Outcome, ConnectorError> {
        self.act_within(action, key, permit, expected, &Limits::default())
    }
}

struct Place(tempfile::TempDir);

impl Place {
    fn with(files: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            fs::write(dir.path().join(name), text).unwrap();
        }
        Self(dir)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn text(&self, name: &str) -> Option<String> {
        fs::read_to_string(self.path().join(name)).ok()
    }

    fn hidden(&self, name: &str) -> Vec<String> {
        let names = fs::read_dir(self.path().join(HOME).join(name)).unwrap();
        names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }
}

#[test]
fn a_sandbox_bounds_the_bytes_that_are_written_whatever_they_come_from() {
    let place = Place::with(&[("a.conf", "one and more\n")]);
    let folder = open(place.path());
    let within = |bytes: usize| Limits::parse(&[format!("bytes:{bytes}")], folder.sandboxes()).unwrap();
    let refused =
        folder.act_within(&write("a.conf", "two\n"), "k1", "p1", &of("one and more\n"), &within(3)).unwrap_err();
    assert!(refused.to_string().contains("4 bytes are more than the sandbox bytes:3"), "{refused}");
    assert_eq!((place.text("a.conf").as_deref(), folder.probe("k1").unwrap()), (Some("one and more\n"), Probe::Absent));
    folder.act_within(&write("a.conf", "two\n"), "k2", "p2", &of("one and more\n"), &within(4)).unwrap();
    let restore = action(OP_FILE_RESTORE, "a.conf", None);
    let refused = folder.act_within(&restore, "k3", "p3", &of("two\n"), &within(4)).unwrap_err();
    assert!(refused.to_string().contains("13 bytes"), "{refused}");
    assert_eq!(place.text("a.conf").as_deref(), Some("two\n"));
}

#[test]
fn a_write_comes_once_on_the_version_it_was_given_for_and_can_be_taken_back() {
    let place = Place::with(&[("a.conf", "one\n")]);
    fs::set_permissions(place.path().join("a.conf"), fs::Permissions::from_mode(0o640)).unwrap();
    let folder = open(place.path());
    let dry = folder.dry_run(&write("a.conf", "two\n"), 0).unwrap();
    assert_eq!(dry.text, "--- a/a.conf\n+++ b/a.conf\n@@ -1,1 +1,1 @@\n-one\n+two\n");
    assert_eq!(folder.version("a.conf").unwrap(), Some(of("one\n")));

    let done = folder.act(&write("a.conf", "two\n"), "k1", "p1", &of("one\n")).unwrap();
    assert_eq!((done.effect, done.before, done.after), (Effect::Applied, of("one\n"), of("two\n")));
    assert_eq!(place.text("a.conf").as_deref(), Some("two\n"));
    assert_eq!(fs::metadata(place.path().join("a.conf")).unwrap().permissions().mode() & 0o777, 0o640);
    assert!(matches!(folder.check("k1", CHECK_CONTENT).unwrap(), Held::Yes(_)));
    assert_eq!(folder.probe("k1").unwrap(), Probe::Applied);

    let inode = fs::metadata(place.path().join("a.conf")).unwrap().ino();
    let again = folder.act(&write("a.conf", "two\n"), "k1", "p2", &of("one\n")).unwrap();
    assert_eq!((again.effect, again.after), (Effect::AlreadyApplied, of("two\n")));
    assert_eq!(fs::metadata(place.path().join("a.conf")).unwrap().ino(), inode, "the file was not touched");

    let back = folder.take_back("k1", "a.conf").unwrap();
    assert_eq!((back.effect, place.text("a.conf").as_deref()), (Effect::Applied, Some("one\n")));
    assert_eq!(folder.probe("k1").unwrap(), Probe::Ended);
    assert_eq!(folder.take_back("k1", "a.conf").unwrap().effect, Effect::NothingThere);
    assert_eq!(folder.act(&write("a.conf", "two\n"), "k1", "p1", &of("one\n")).unwrap().effect, Effect::AlreadyEnded);
    assert_eq!(place.hidden("stage"), Vec::<String>::new());
}

#[test]
fn a_stale_version_does_nothing_and_says_so() {
    let place = Place::with(&[("a.conf", "hand-made\n")]);
    let folder = open(place.path());
    let refused = folder.act(&write("a.conf", "two\n"), "k1", "p1", &of("one\n")).unwrap_err();
    assert!(matches!(&refused, ConnectorError::Changed { found, .. } if *found == of("hand-made\n")), "{refused}");
    assert!(refused.to_string().ends_with("; nothing was done"), "{refused}");
    assert_eq!((folder.probe("k1").unwrap(), place.text("a.conf").as_deref()), (Probe::Absent, Some("hand-made\n")));
    let refused = folder.act(&write("new.conf", "two\n"), "k2", "p2", &of("one\n")).unwrap_err();
    assert!(refused.to_string().contains("is at version absent"), "{refused}");
}

#[test]
fn a_new_file_is_absent_before_and_gone_when_taken_back() {
    let place = Place::with(&[]);
    fs::create_dir(place.path().join("conf.d")).unwrap();
    let folder = open(place.path());
    assert_eq!(folder.version("conf.d/x").unwrap().as_deref(), Some(ABSENT));
    folder.act(&write("conf.d/x", "new\n"), "k1", "p1", ABSENT).unwrap();
    assert_eq!(place.text("conf.d/x").as_deref(), Some("new\n"));
    assert_eq!(folder.read(&action(OP_FILE_READ, "conf.d/x", None)).unwrap().bytes, b"new\n");
    folder.take_back("k1", "conf.d/x").unwrap();
    assert_eq!((place.text("conf.d/x"), folder.probe("k1").unwrap()), (None, Probe::Ended));
    let missing = folder.dry_run(&write("none/x", "new\n"), 0).unwrap_err();
    assert!(missing.to_string().contains("there is no directory"), "{missing}");
}

#[test]
fn what_somebody_changed_since_is_not_overwritten_by_an_undo() {
    let place = Place::with(&[("a.conf", "one\n")]);
    let folder = open(place.path());
    folder.act(&write("a.conf", "two\n"), "k1", "p1", &of("one\n")).unwrap();
    fs::write(place.path().join("a.conf"), "by hand\n").unwrap();
    assert!(matches!(folder.take_back("k1", "a.conf"), Err(ConnectorError::Changed { .. })));
    assert_eq!(place.text("a.conf").as_deref(), Some("by hand\n"));
    assert!(matches!(folder.check("k1", CHECK_CONTENT).unwrap(), Held::No(_)));
    assert!(folder.check("k1", "colour").unwrap_err().to_string().contains("it has content"));
}

#[test]
fn restore_gives_the_former_content_and_only_where_it_leads() {
    let place = Place::with(&[("a.conf", "one\n")]);
    let folder = open(place.path());
    let restore = action(OP_FILE_RESTORE, "a.conf", None);
    assert!(matches!(folder.dry_run(&restore, 0), Err(ConnectorError::NoCopy { .. })));
    folder.act(&write("a.conf", "two\n"), "k1", "p1", &of("one\n")).unwrap();
    assert!(folder.dry_run(&restore, 0).unwrap().text.contains("-two\n+one\n"));
    folder.act(&restore, "k2", "p2", &of("two\n")).unwrap();
    assert_eq!(place.text("a.conf").as_deref(), Some("one\n"));
    folder.act(&restore, "k3", "p3", &of("one\n")).unwrap();
    assert_eq!(place.text("a.conf").as_deref(), Some("two\n"), "a restore can be restored");
}

#[test]
fn a_deletion_takes_every_copy_with_it() {
    let place = Place::with(&[("a.conf", "one\n"), ("b.conf", "b\n")]);
    let folder = open(place.path());
    folder.act(&write("a.conf", "two\n"), "k1", "p1", &of("one\n")).unwrap();
    folder.act(&write("b.conf", "c\n"), "k2", "p2", &of("b\n")).unwrap();
    let delete = action(OP_FILE_DELETE, "a.conf", None);
    let dry = folder.dry_run(&delete, 0).unwrap();
    assert!(dry.text.ends_with("-two\n(and 1 kept copies of it)\n"), "{}", dry.text);
    folder.act(&delete, "k3", "p3", &of("two\n")).unwrap();
    assert_eq!((place.text("a.conf"), place.hidden("copies")), (None, vec!["k2".to_owned()]));
    assert_eq!((folder.probe("k3").unwrap(), place.hidden("stage").len()), (Probe::Applied, 0));
    let lost = folder.take_back("k1", "a.conf").unwrap_err();
    assert!(matches!(lost, ConnectorError::Changed { .. }), "{lost}");
    let refused = folder.act(&delete, "k4", "p4", ABSENT).unwrap_err();
    assert!(refused.to_string().contains("there is no "), "{refused}");
}

#[test]
fn copies_are_bounded_and_what_is_dropped_is_told() {
    let place = Place::with(&[("a.conf", "0")]);
    let folder = open(place.path());
    for n in 0..copies::COPIES_MAX {
        let (old, new) = (n.to_string(), (n + 1).to_string());
        let done = folder.act(&write("a.conf", &new), &format!("k{n}"), "p", &of(&old)).unwrap();
        assert_eq!(done.told, Vec::<String>::new());
    }
    let last = copies::COPIES_MAX.to_string();
    let done = folder.act(&write("a.conf", "end"), "last", "p", &of(&last)).unwrap();
    assert!(done.told[0].contains("the oldest copy of a.conf was dropped"), "{:?}", done.told);
    assert_eq!(
        (place.hidden("copies").len(), place.hidden("copies").contains(&"k0".to_owned())),
        (copies::COPIES_MAX, false)
    );
}

#[test]
fn what_is_no_managed_text_is_refused_and_nothing_leaves_the_folder() {
    let place = Place::with(&[("real", "x\n"), ("bytes", "")]);
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("secret"), "secret\n").unwrap();
    let at = |name: &str| place.path().join(name);
    fs::write(at("bytes"), b"\xff\xfe").unwrap();
    fs::write(at("large"), vec![b'x'; 65_537]).unwrap();
    fs::create_dir(at("dir")).unwrap();
    symlink(outside.path().join("secret"), at("link")).unwrap();
    symlink(outside.path(), at("away")).unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, at("fifo"), rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    let folder = open(place.path());
    for (object, says) in [
        ("link", "is a symlink"),
        ("away/secret", "is a symlink"),
        ("dir", "is not a regular file"),
        ("fifo", "is not a regular file"),
        ("real/x", "is not a regular file"),
        ("bytes", "is not UTF-8 text"),
        ("large", "is larger than 65536 bytes"),
        ("../secret", "is no path below"),
        ("dir/../real", "is no path below"),
        ("/etc/passwd", "is no path below"),
        (".cauldron/journal", "is no path below"),
        ("dir//x", "is no path below"),
        ("a\\b", "is no path below"),
        ("a\nb", "is no path below"),
    ] {
        let refused = folder.version(object).unwrap_err().to_string();
        assert!(refused.contains(says), "{object}: {refused}");
    }
    let long = folder.dry_run(&write("real", &"é".repeat(40_000)), 0).unwrap_err();
    assert!(matches!(long, ConnectorError::TooLarge { .. }), "{long}");
    assert_eq!(fs::read_to_string(outside.path().join("secret")).unwrap(), "secret\n");
}

#[test]
fn a_file_that_becomes_a_link_between_look_and_effect_is_not_followed() {
    let place = Place::with(&[("a.conf", "one\n")]);
    let outside = tempfile::tempdir().unwrap();
    let secret = outside.path().join("secret");
    fs::write(&secret, "one\n").unwrap();
    let (file, target) = (place.path().join("a.conf"), secret.clone());
    let swap = move |point: &str| {
        if point == "effect.before" {
            fs::remove_file(&file).unwrap();
            symlink(&target, &file).unwrap();
        }
    };
    let folder = Folder::open(place.path(), &node("lyon"), Box::new(swap)).unwrap();
    let refused = folder.act(&write("a.conf", "two\n"), "k1", "p1", &of("one\n")).unwrap_err();
    assert!(matches!(refused, ConnectorError::Symlink { .. }), "{refused}");
    assert_eq!((fs::read_to_string(&secret).unwrap().as_str(), folder.probe("k1").unwrap()), ("one\n", Probe::Absent));
}

#[test]
fn an_edit_between_look_and_effect_wins() {
    let place = Place::with(&[("a.conf", "one\n")]);
    let file = place.path().join("a.conf");
    let edit = move |point: &str| {
        if point == "effect.before" {
            fs::write(&file, "by hand\n").unwrap();
        }
    };
    let folder = Folder::open(place.path(), &node("lyon"), Box::new(edit)).unwrap();
    let refused = folder.act(&write("a.conf", "two\n"), "k1", "p1", &of("one\n")).unwrap_err();
    assert!(matches!(refused, ConnectorError::Changed { .. }), "{refused}");
    assert_eq!((place.text("a.conf").as_deref(), folder.probe("k1").unwrap()), (Some("by hand\n"), Probe::Absent));
    assert_eq!((place.hidden("stage").len(), place.hidden("copies").len()), (0, 0));
}

#[test]
fn a_folder_has_one_owner_and_one_process() {
    let place = Place::with(&[]);
    let at = place.path().display().to_string();
    let refusal = |name: &str| Folder::open(place.path(), &node(name), Box::new(|_| {})).unwrap_err().to_string();
    let lyon = open(place.path());
    let mode = fs::metadata(place.path().join(HOME)).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o700);
    let marker = format!("{at}/.cauldron/folder.owner");
    assert_eq!(refusal("lyon"), format!("another process holds {at} (lock on {marker}); stop it first"));
    drop(lyon);
    assert!(refusal("porto").starts_with(&format!("{at} belongs to spiffe://")), "{}", refusal("porto"));
    assert!(Folder::examine(place.path(), &node("porto")).is_err());
    assert!(Folder::examine(place.path(), &node("lyon")).is_ok());
    let none = Folder::examine(&place.path().join("none"), &node("lyon")).unwrap_err().to_string();
    assert_eq!(none, format!("there is no folder {at}/none; create it, or name another one"));
    symlink(place.path(), place.path().join("link")).unwrap();
    let link = Folder::open(place.path().join("link"), &node("lyon"), Box::new(|_| {})).unwrap_err();
    assert!(matches!(link, ConnectorError::Symlink { .. }), "{link}");
}

#[test]
fn another_folder_in_its_place_is_noticed() {
    let outer = tempfile::tempdir().unwrap();
    let path = outer.path().join("etc");
    fs::create_dir(&path).unwrap();
    let folder = open(&path);
    fs::rename(&path, outer.path().join("old")).unwrap();
    assert!(matches!(folder.version("a"), Err(ConnectorError::NoFolder { .. })));
    fs::create_dir(&path).unwrap();
    assert!(matches!(folder.act(&write("a", "x"), "k", "p", ABSENT), Err(ConnectorError::NoFolder { .. })));
}

#[test]
fn a_full_disk_leaves_nothing_behind() {
    // The journal cannot be written: where it is made anew stands a directory.
    let place = Place::with(&[("a.conf", "one\n")]);
    let folder = open(place.path());
    fs::create_dir(place.path().join(HOME).join("journal.new")).unwrap();
    let refused = folder.act(&write("a.conf", "two\n"), "k1", "p1", &of("one\n")).unwrap_err();
    assert!(matches!(refused, ConnectorError::Io { .. }), "{refused}");
    assert_eq!((folder.probe("k1").unwrap(), place.text("a.conf").as_deref()), (Probe::Absent, Some("one\n")));
    fs::remove_dir(place.path().join(HOME).join("journal.new")).unwrap();
    assert_eq!(folder.act(&write("a.conf", "two\n"), "k1", "p1", &of("one\n")).unwrap().effect, Effect::Applied);
}

#[test]
fn a_damaged_copy_and_a_damaged_journal_are_not_believed() {
    let place = Place::with(&[("a.conf", "one\n")]);
    let folder = open(place.path());
    folder.act(&write("a.conf", "two\n"), "k1", "p1", &of("one\n")).unwrap();
    fs::write(place.path().join(HOME).join("copies/k1"), "other\n").unwrap();
    let refused = folder.take_back("k1", "a.conf").unwrap_err();
    assert!(refused.to_string().ends_with("its copy is damaged"), "{refused}");
    fs::write(place.path().join(HOME).join("journal"), b"\xff\nbegun\ndone write k\n\n").unwrap();
    assert_eq!(folder.probe("k1").unwrap(), Probe::Absent);
    assert!(folder.take_back("k1", "a.conf").unwrap_err().to_string().contains("nothing was done"));
}

/// Runs `deed` until the fault point, dies there, and opens the folder anew.
fn die_at(place: &Place, point: &'static str, deed: impl FnOnce(&Folder)) -> (Folder, bool) {
    let died = Arc::new(Mutex::new(false));
    let seen = Arc::clone(&died);
    let hook = move |at: &str| {
        if at == point {
            *seen.lock().unwrap() = true;
            std::panic::resume_unwind(Box::new(at.to_owned()));
        }
    };
    let folder = Folder::open(place.path(), &node("lyon"), Box::new(hook)).unwrap();
    let _ = catch_unwind(AssertUnwindSafe(|| deed(&folder)));
    drop(folder);
    let died = *died.lock().unwrap();
    (open(place.path()), died)
}

#[test]
fn a_write_that_dies_after_the_effect_is_found_and_not_repeated() {
    for point in POINTS {
        let place = Place::with(&[("a.conf", "one\n")]);
        let (folder, died) =
            die_at(&place, point, |f| drop(f.act(&write("a.conf", "two\n"), "k1", "p1", &of("one\n"))));
        assert!(died, "{point}");
        let happened = place.text("a.conf").as_deref() == Some("two\n");
        assert_eq!(happened, !matches!(point, "effect.staged" | "effect.before"), "{point}");
        assert_eq!(folder.probe("k1").unwrap(), if happened { Probe::Applied } else { Probe::Absent }, "{point}");
        // Somebody's edit after the crash does not make it forget, and is not overwritten.
        if happened {
            fs::write(place.path().join("a.conf"), "by hand\n").unwrap();
            let again = folder.act(&write("a.conf", "two\n"), "k1", "p1", &of("one\n")).unwrap();
            assert_eq!((again.effect, place.text("a.conf").as_deref()), (Effect::AlreadyApplied, Some("by hand\n")));
        } else {
            let again = folder.act(&write("a.conf", "two\n"), "k1", "p1", &of("one\n")).unwrap();
            assert_eq!((again.effect, place.text("a.conf").as_deref()), (Effect::Applied, Some("two\n")));
        }
        assert_eq!(place.hidden("stage").len(), 0, "{point}");
    }
}

#[test]
fn a_deletion_or_an_undo_that_dies_is_found_too() {
    for point in POINTS {
        let place = Place::with(&[("a.conf", "one\n")]);
        open(place.path()).act(&write("a.conf", "two\n"), "k1", "p1", &of("one\n")).unwrap();
        let (folder, died) = die_at(&place, point, |f| drop(f.take_back("k1", "a.conf")));
        assert!(died, "{point}");
        let undone = place.text("a.conf").as_deref() == Some("one\n");
        assert_eq!(folder.probe("k1").unwrap(), if undone { Probe::Ended } else { Probe::Applied }, "{point}");
        folder.take_back("k1", "a.conf").unwrap();
        assert_eq!((place.text("a.conf").as_deref(), folder.probe("k1").unwrap()), (Some("one\n"), Probe::Ended));
        drop(folder);

        let delete = action(OP_FILE_DELETE, "a.conf", None);
        let (folder, died) = die_at(&place, point, |f| drop(f.act(&delete, "k2", "p2", &of("one\n"))));
        assert_eq!(died, point != "effect.staged", "{point}");
        let gone = place.text("a.conf").is_none();
        assert_eq!(folder.probe("k2").unwrap(), if gone { Probe::Applied } else { Probe::Absent }, "{point}");
        assert_eq!((place.hidden("copies").len(), place.hidden("stage").len()), (usize::from(!gone), 0), "{point}");
    }
}

#[derive(Clone, Debug)]
enum Step {
    Write(u8),
    Restore,
    Delete,
    Undo(usize),
    Hand(u8),
    Restart,
}

fn steps() -> impl Strategy<Value = Vec<(Step, Option<usize>)>> {
    let step = prop_oneof![
        4 => (0u8..4).prop_map(Step::Write),
        2 => Just(Step::Restore),
        1 => Just(Step::Delete),
        2 => (0usize..8).prop_map(Step::Undo),
        1 => (0u8..4).prop_map(Step::Hand),
        1 => Just(Step::Restart),
    ];
    proptest::collection::vec((step, proptest::option::of(0usize..POINTS.len())), 1..14)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// Whatever happens and wherever it dies: each key changes the file at most once, and a probe tells whether it did.
    #[test]
    fn an_execution_happens_at_most_once_and_the_probe_tells_the_truth(steps in steps()) {
        let place = Place::with(&[("a", "start")]);
        let mut keys: Vec<(String, u32)> = Vec::new();
        for (n, (step, fault)) in steps.into_iter().enumerate() {
            let point = fault.map_or("", |f| POINTS[f]);
            let (key, now) = (format!("k{n}"), version(place.text("a").as_deref().map(str::as_bytes)));
            let text = |t: u8| format!("text {t} of {n}");
            let moved = Arc::new(Mutex::new(0u32));
            let count = Arc::clone(&moved);
            let hook = move |at: &str| {
                *count.lock().unwrap() += u32::from(at == "effect.moved");
                if at == point {
                    std::panic::resume_unwind(Box::new(()));
                }
            };
            let folder = Folder::open(place.path(), &node("lyon"), Box::new(hook)).unwrap();
            let act = |action: &Action| {
                let _ = catch_unwind(AssertUnwindSafe(|| folder.act(action, &key, "p", &now)));
                let _ = catch_unwind(AssertUnwindSafe(|| folder.act(action, &key, "p", &now)));
            };
            match &step {
                Step::Write(t) => act(&write("a", &text(*t))),
                Step::Restore => act(&action(OP_FILE_RESTORE, "a", None)),
                Step::Delete => act(&action(OP_FILE_DELETE, "a", None)),
                Step::Undo(of) => {
                    if let Some((key, _)) = keys.get(*of) {
                        let _ = catch_unwind(AssertUnwindSafe(|| folder.take_back(key, "a")));
                    }
                }
                Step::Hand(t) => fs::write(place.path().join("a"), text(*t)).unwrap(),
                Step::Restart => {}
            }
            drop(folder);
            let folder = open(place.path());
            let times = *moved.lock().unwrap();
            prop_assert!(times <= 1, "{step:?} at {point:?} changed the file {times} times");
            if matches!(step, Step::Write(_) | Step::Restore | Step::Delete) {
                prop_assert_eq!(folder.probe(&key).unwrap() != Probe::Absent, times == 1, "{:?} at {:?}", step, point);
                keys.push((key, times));
            }
            for (key, times) in &keys {
                prop_assert_eq!(folder.probe(key).unwrap() == Probe::Absent, *times == 0, "{}", key);
            }
            prop_assert_eq!(place.hidden("stage").len(), 0);
        }
    }
}
