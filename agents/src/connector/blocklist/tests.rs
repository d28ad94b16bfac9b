use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::sync::{Arc, Mutex};

use super::*;

const NOW_MS: u64 = 1_795_338_000_000; // 2026-11-22T09:00:00Z

fn node(name: &str) -> SpiffeId {
    format!("spiffe://demo.cauldron.internal/site/{name}/node/{name}").parse().unwrap()
}

fn block(address: &str, permit_id: &str) -> Block {
    Block {
        address: address.parse().unwrap(),
        ttl_s: 3600,
        permit_id: permit_id.into(),
        idempotency_key: key(permit_id),
    }
}

fn key(permit_id: &str) -> String {
    format!("key-of-{permit_id}")
}

fn open(path: &Path) -> Blocklist {
    Blocklist::open(path, &node("lyon"), Box::new(|_| {})).unwrap()
}

fn blocklist_with(content: &[u8]) -> (tempfile::TempDir, Blocklist) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("blocklist");
    fs::write(&path, content).unwrap();
    let list = open(&path);
    (dir, list)
}

#[test]
fn a_block_comes_once_and_goes_when_its_time_is_over() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("blocklist");
    let mut list = open(&path);
    assert_eq!(list.look_for(&key("01J")).unwrap(), Probe::Absent);

    let outcome = list.apply(&block("198.51.100.7", "01J"), NOW_MS).unwrap();
    assert_eq!((outcome.effect, outcome.until_ms), (Effect::Applied, Some(NOW_MS + 3_600_000)));
    let text = "198.51.100.7 # until 2026-11-22T10:00:00Z permit 01J\n";
    assert_eq!(fs::read_to_string(&path).unwrap(), text);
    assert_eq!(list.look_for(&key("01J")).unwrap(), Probe::Applied);

    let before = fs::metadata(&path).unwrap().ino();
    let again = list.apply(&block("198.51.100.7", "01J"), NOW_MS + 5000).unwrap();
    assert_eq!((again.effect, again.until_ms), (Effect::AlreadyApplied, Some(NOW_MS + 3_600_000)));
    assert_eq!(fs::metadata(&path).unwrap().ino(), before, "the file was not touched");

    assert_eq!(list.remove_expired(NOW_MS + 3_599_999).unwrap(), []);
    let ended = list.remove_expired(NOW_MS + 3_600_000).unwrap();
    assert_eq!(ended.iter().map(|e| (e.permit_id.as_str(), e.why)).collect::<Vec<_>>(), [("01J", EndedWhy::Expired)]);
    assert_eq!(fs::read_to_string(&path).unwrap(), "");
    assert_eq!(list.remove_expired(NOW_MS + 3_600_000).unwrap(), []);

    // After a crash, "its time was over" is not "it never happened".
    drop(list);
    let mut list = open(&path);
    assert_eq!(list.look_for(&key("01J")).unwrap(), Probe::Ended);
    assert_eq!(list.apply(&block("198.51.100.7", "01J"), NOW_MS).unwrap().effect, Effect::AlreadyEnded);
    assert_eq!(fs::read_to_string(&path).unwrap(), "");
}

#[test]
fn lines_of_others_are_kept_to_the_byte() {
    let foreign = b"# kept by hand\r\n\r\n203.0.113.9 ; partner\n\xff\xfe\x00\n  192.0.2.1\nno newline";
    let (_dir, mut list) = blocklist_with(foreign);
    list.apply(&block("198.51.100.7", "p1"), NOW_MS).unwrap();
    list.apply(&block("2001:db8::7", "p2"), NOW_MS).unwrap();
    assert_eq!(list.entries().unwrap().len(), 2);
    list.remove_expired(NOW_MS + 4_000_000).unwrap();
    assert_eq!(fs::read(list.path()).unwrap(), foreign);
}

#[test]
fn an_address_somebody_else_lists_is_left_alone() {
    let foreign = b"198.51.100.7 # by hand\n";
    let (_dir, mut list) = blocklist_with(foreign);
    let outcome = list.apply(&block("::ffff:198.51.100.7", "p1"), NOW_MS).unwrap();
    assert_eq!(outcome.effect, Effect::AlreadyListed);
    assert!(outcome.effect_ref.ends_with("blocklist:1"), "{}", outcome.effect_ref);
    assert_eq!(list.remove_expired(u64::MAX).unwrap(), []);
    assert_eq!(fs::read(list.path()).unwrap(), foreign);
}

#[test]
fn a_later_permit_extends_and_never_shortens() {
    let (_dir, mut list) = blocklist_with(b"");
    list.apply(&block("198.51.100.7", "p1"), NOW_MS).unwrap();
    let shorter = Block { ttl_s: 1, ..block("198.51.100.7", "p2") };
    let outcome = list.apply(&shorter, NOW_MS).unwrap();
    assert_eq!(outcome.until_ms, Some(NOW_MS + 3_600_000));
    assert_eq!(outcome.replaced.map(|e| (e.permit_id, e.why)), Some(("p1".to_owned(), EndedWhy::Replaced)));
    assert_eq!(list.entries().unwrap().len(), 1);
    assert_eq!(list.look_for(&key("p1")).unwrap(), Probe::Ended);
}

#[test]
fn a_second_permit_of_the_same_lineage_is_the_same_effect() {
    let (_dir, mut list) = blocklist_with(b"");
    list.apply(&block("198.51.100.7", "p1"), NOW_MS).unwrap();
    let second = Block { permit_id: "p2".into(), ..block("198.51.100.7", "p1") };
    assert_eq!(list.apply(&second, NOW_MS + 9000).unwrap().effect, Effect::AlreadyApplied);
    list.remove_expired(NOW_MS + 3_600_000).unwrap();
    assert_eq!(list.apply(&second, NOW_MS + 3_600_001).unwrap().effect, Effect::AlreadyEnded);
    assert_eq!(fs::read(list.path()).unwrap(), b"");
}

#[test]
fn a_lost_or_damaged_journal_stops_nothing() {
    let (_dir, mut list) = blocklist_with(b"");
    list.apply(&block("198.51.100.7", "p1"), NOW_MS).unwrap();
    fs::write(file::suffixed(list.path(), ".journal"), b"\xff\xfe\nbegun\nended a b c\n\nbegun x y\n").unwrap();
    let again = list.apply(&block("198.51.100.7", "p1"), NOW_MS).unwrap();
    assert_eq!(again.effect, Effect::AlreadyApplied, "the line itself names the permit");
    let ended = list.remove_expired(u64::MAX).unwrap();
    assert_eq!(ended.iter().map(|e| e.permit_id.as_str()).collect::<Vec<_>>(), ["p1"]);
}

#[test]
fn the_journal_is_bounded() {
    let (_dir, mut list) = blocklist_with(b"");
    let path = file::suffixed(list.path(), ".journal");
    fs::write(&path, (0..5000).map(|n| format!("ended k{n} p{n}\n")).collect::<String>()).unwrap();
    list.apply(&block("198.51.100.7", "new"), NOW_MS).unwrap();
    let text = fs::read_to_string(&path).unwrap();
    assert_eq!((text.lines().count(), text.lines().last()), (4096, Some("begun key-of-new new")));
}

#[test]
fn mode_is_kept() {
    let (_dir, mut list) = blocklist_with(b"x\n");
    fs::set_permissions(list.path(), fs::Permissions::from_mode(0o640)).unwrap();
    list.apply(&block("198.51.100.7", "p1"), NOW_MS).unwrap();
    assert_eq!(fs::metadata(list.path()).unwrap().mode() & 0o7777, 0o640);
}

#[test]
fn owner_and_group_are_kept() {
    if !rustix::process::geteuid().is_root() {
        cauldron_tests::skipped("owner_and_group_are_kept", "needs root: only root may give files away");
        return;
    }
    let (_dir, mut list) = blocklist_with(b"x\n");
    std::os::unix::fs::chown(list.path(), Some(12345), Some(54321)).unwrap();
    list.apply(&block("198.51.100.7", "p1"), NOW_MS).unwrap();
    let meta = fs::metadata(list.path()).unwrap();
    assert_eq!((meta.uid(), meta.gid()), (12345, 54321));
}

#[test]
fn what_is_refused_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let refusal = |path: &Path, who: &str| {
        let error = Blocklist::open(path, &node(who), Box::new(|_| {})).unwrap_err();
        error.to_string().replace(&dir.path().display().to_string(), "DIR")
    };
    assert_eq!(
        refusal(&at("no/blocklist"), "lyon"),
        "there is no directory DIR/no for DIR/no/blocklist; create it, or name another file"
    );

    fs::write(at("real"), "x\n").unwrap();
    symlink(at("real"), at("link")).unwrap();
    assert_eq!(refusal(&at("link"), "lyon"), "DIR/link is a symlink; name the file itself");
    symlink(at("nowhere"), at("dangling")).unwrap();
    assert_eq!(refusal(&at("dangling"), "lyon"), "DIR/dangling is a symlink; name the file itself");
    fs::create_dir(at("folder")).unwrap();
    assert_eq!(refusal(&at("folder"), "lyon"), "DIR/folder is not a regular file");
    rustix::fs::mknodat(rustix::fs::CWD, at("fifo"), rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    assert_eq!(refusal(&at("fifo"), "lyon"), "DIR/fifo is not a regular file");

    let lyon = open(&at("real"));
    assert_eq!(refusal(&at("real"), "lyon"), "another process holds DIR/real (lock on DIR/real.owner); stop it first");
    drop(lyon);
    assert_eq!(
        refusal(&at("real"), "porto"),
        "DIR/real belongs to spiffe://demo.cauldron.internal/site/lyon/node/lyon, this node is \
         spiffe://demo.cauldron.internal/site/porto/node/porto; name another file, or stop that node and remove DIR/real.owner"
    );
    assert_eq!(fs::read(at("real")).unwrap(), b"x\n");
}

#[test]
fn a_file_that_becomes_a_symlink_is_refused_at_the_effect() {
    let (dir, mut list) = blocklist_with(b"");
    let elsewhere = dir.path().join("elsewhere");
    fs::write(&elsewhere, "precious\n").unwrap();
    fs::remove_file(list.path()).unwrap();
    symlink(&elsewhere, list.path()).unwrap();
    assert!(matches!(list.apply(&block("198.51.100.7", "p1"), NOW_MS), Err(ConnectorError::Symlink { .. })));
    assert!(matches!(list.remove_expired(NOW_MS), Err(ConnectorError::Symlink { .. })));
    assert_eq!(fs::read(&elsewhere).unwrap(), b"precious\n");
}

#[test]
fn special_addresses_and_strange_permits_are_refused() {
    let (_dir, mut list) = blocklist_with(b"");
    for wrong in [
        block("127.0.0.1", "p"),
        block("::ffff:127.0.0.1", "p"),
        block("fe80::1", "p"),
        block("198.51.100.7", "p\nx"),
        block("198.51.100.7", ""),
    ] {
        assert!(matches!(list.apply(&wrong, NOW_MS), Err(ConnectorError::Refused { .. })), "{wrong:?}");
    }
    assert_eq!(fs::read(list.path()).unwrap(), b"");
}

#[test]
fn an_edit_between_read_and_replace_is_not_lost() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("blocklist");
    fs::write(&path, "first\n").unwrap();
    let (edited, edits) = (path.clone(), Mutex::new(0));
    let fault = move |point: &str| {
        let mut edits = edits.lock().unwrap();
        if point == "effect.before" && *edits < 2 {
            *edits += 1;
            let text = fs::read_to_string(&edited).unwrap();
            fs::write(&edited, format!("{text}edit {edits}\n")).unwrap();
        }
    };
    let mut list = Blocklist::open(&path, &node("lyon"), Box::new(fault)).unwrap();
    assert_eq!(list.apply(&block("198.51.100.7", "p1"), NOW_MS).unwrap().effect, Effect::Applied);
    let text = fs::read_to_string(&path).unwrap();
    assert_eq!(text, "first\nedit 1\nedit 2\n198.51.100.7 # until 2026-11-22T10:00:00Z permit p1\n");
}

#[test]
fn endless_edits_end_in_an_error_without_effect() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("blocklist");
    let (edited, count) = (path.clone(), Mutex::new(0u64));
    let fault = move |_: &str| {
        let mut count = count.lock().unwrap();
        *count += 1;
        fs::write(&edited, "x".repeat(*count as usize)).unwrap();
    };
    let mut list = Blocklist::open(&path, &node("lyon"), Box::new(fault)).unwrap();
    assert!(matches!(list.apply(&block("198.51.100.7", "p1"), NOW_MS), Err(ConnectorError::Contended { .. })));
    assert_eq!(fs::read_to_string(&path).unwrap(), "xxxxx");
    assert_eq!(list.look_for(&key("p1")).unwrap(), Probe::Absent);
}

#[test]
fn fault_points_surround_the_effect() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("blocklist");
    let seen = Arc::new(Mutex::new(Vec::new()));
    let (watched, log) = (path.clone(), Arc::clone(&seen));
    let fault = move |point: &str| log.lock().unwrap().push((point.to_owned(), watched.exists()));
    let mut list = Blocklist::open(&path, &node("lyon"), Box::new(fault)).unwrap();
    list.apply(&block("198.51.100.7", "p1"), NOW_MS).unwrap();
    list.apply(&block("198.51.100.7", "p1"), NOW_MS).unwrap();
    assert_eq!(*seen.lock().unwrap(), [("effect.before".to_owned(), false), ("effect.after".to_owned(), true)]);
}

#[test]
fn a_crash_before_the_rename_leaves_no_effect_and_does_not_stand_in_the_way() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("blocklist");
    let mut list = Blocklist::open(&path, &node("lyon"), Box::new(|p| assert_ne!(p, "effect.before"))).unwrap();
    let crash =
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| list.apply(&block("198.51.100.7", "p1"), NOW_MS)));
    assert!(crash.is_err());
    drop(list);
    let mut list = open(&path);
    assert_eq!(list.look_for(&key("p1")).unwrap(), Probe::Absent);
    assert_eq!(list.apply(&block("198.51.100.7", "p1"), NOW_MS).unwrap().effect, Effect::Applied);
    assert_eq!(list.entries().unwrap().len(), 1);
}
