//! Shared documents as people use them: written at one node, read at another, with a signed fact behind every value; and a
//! cut that takes an author's work out without taking anybody else's.

use std::path::Path;
use std::time::{Duration, Instant};

use cauldron_tests::{Mesh, Node, cauldron, eventually, shared};

fn value(node: &Node, row: &str, field: &str) -> serde_json::Value {
    let doc = node.get("/v1/docs/config/main");
    doc["content"]["rows"][row][field].clone()
}

fn text(node: &Node) -> String {
    let doc = node.get("/v1/docs/notes/handover");
    doc["content"]["text"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn documents_are_shared_named_and_survive_a_restart() {
    let mut mesh = Mesh::found();
    mesh.until_converged();
    mesh.lyon.run(&["doc", "set", "config/main", "proxy", "port=443", "host=gw.example", "on=true"]).ok();
    eventually("porto reads it", || value(&mesh.porto, "proxy", "port") == 443);
    assert_eq!(value(&mesh.porto, "proxy", "on"), true);
    let again = mesh.lyon.run(&["doc", "set", "config/main", "proxy", "port=443"]).ok();
    assert!(again.json()["id"].is_null(), "it says so already: {again:?}");
    mesh.porto.run(&["doc", "set", "config/main", "proxy", "port=8443", "--remove", "on"]).ok();
    eventually("lyon reads it", || value(&mesh.lyon, "proxy", "port") == 8443);
    assert_eq!(value(&mesh.lyon, "proxy", "on"), serde_json::Value::Null);

    // Two write one text; what one wrote stays its own.
    let file = mesh.folder().join("handover.txt");
    std::fs::write(&file, "lyon: all quiet\nporto: to be checked\n").expect("written");
    let path = file.display().to_string();
    mesh.lyon.run(&["doc", "write", "notes/handover", &path, "--title", "Handover"]).ok();
    eventually("porto reads the notes", || text(&mesh.porto).contains("to be checked"));
    std::fs::write(&file, "lyon: all quiet\nporto: two probes blocked\n").expect("written");
    mesh.porto.run(&["doc", "write", "notes/handover", &path]).ok();
    mesh.hq.run(&["doc", "write", "notes/handover", "--append", "seen by hq\n"]).ok();
    let whole = "lyon: all quiet\nporto: two probes blocked\nseen by hq\n";
    eventually("all read the same", || [&mesh.hq, &mesh.lyon, &mesh.porto].iter().all(|n| text(n) == whole));

    let blame = mesh.lyon.items("/v1/docs/notes/handover/blame");
    let by = |piece: &str| {
        let found = blame.iter().find(|b| b["value"].as_str().is_some_and(|v| v.contains(piece)));
        found.and_then(|b| b["by"].as_str()).unwrap_or_default().to_owned()
    };
    assert_eq!((by("all quiet"), by("probes")), (Mesh::site_id("lyon"), Mesh::site_id("porto")));
    let history = mesh.porto.items("/v1/docs/config/main/history");
    assert_eq!(history.len(), 2);
    let fact = history[1]["fact"].as_str().expect("an id").to_owned();
    let found = mesh.porto.items("/v1/audit?limit=200&kind=doc.change");
    assert!(found.iter().any(|f| f["id"].as_str() == Some(&fact)), "the audit knows the fact that history names");
    assert!(mesh.lyon.run(&["doc", "blame", "config/main"]).ok().out.contains("gw.example"));
    assert!(mesh.lyon.run(&["doc", "history", "notes/handover"]).ok().out.contains("wo probes"));

    // What is wrong is said, and nothing is written.
    assert!(mesh.lyon.run(&["doc", "show", "notes/none"]).refused_with(5).contains("doc list"));
    assert!(mesh.lyon.run(&["doc", "set", "config/main", "Proxy", "port=1"]).refused_with(5).contains("profile"));
    mesh.lyon.run(&["doc", "set", "main", "proxy", "port=1"]).refused_with(2);
    mesh.lyon.run(&["doc", "set", "config/main", "proxy", "port"]).refused_with(2);
    mesh.lyon.run(&["doc", "set", "config/main", "proxy", "port=1", "--scope", "site/porto"]).refused_with(5);
    mesh.lyon.run(&["doc", "set", "board/sites", "lyon", "lyon.done=7"]).refused_with(5);

    // A site's own documents stay there.
    mesh.lyon.run(&["doc", "set", "config/main", "door", "code=quiet-heron-42", "--scope", "site/lyon"]).ok();
    eventually("hq reads it, a coordinator", || {
        mesh.hq.get("/v1/docs/config/main?scope=site/lyon")["doc"] == "config/main"
    });
    let answer = mesh.porto.try_get("/v1/docs/config/main?scope=site/lyon").expect("it answers");
    assert_eq!((answer.status, answer.body.contains("quiet-heron")), (404, false));

    mesh.porto.restart();
    mesh.porto.until_up();
    eventually("it is all there after a restart", || text(&mesh.porto) == whole);
    assert_eq!(value(&mesh.porto, "proxy", "port"), 8443);
}

/// Edits of one document at one node, many at a time, as programs make them.
fn write_many(node: &Node, edits: usize) {
    const AT_A_TIME: usize = 8;
    std::thread::scope(|threads| {
        for writer in 0..AT_A_TIME {
            threads.spawn(move || {
                for n in (writer..edits).step_by(AT_A_TIME) {
                    let fields = serde_json::json!({ format!("k{}", n % 50): n });
                    let body = serde_json::json!({ "row": format!("r{}", n % 20), "fields": fields });
                    assert_eq!(node.post("/v1/docs/config/main", &body).status, 200);
                }
            });
        }
    });
}

#[test]
fn who_lacks_very_many_facts_reads_and_writes_before_they_are_here() {
    const EDITS: usize = 1_200;
    let mut mesh = Mesh::found();
    mesh.until_converged();
    mesh.lyon.stop();
    write_many(&mesh.hq, EDITS);
    mesh.lyon.start();
    mesh.lyon.until_up();
    let lyon = |of: &str| {
        let docs = mesh.lyon.items("/v1/docs");
        docs.into_iter().find(|d| d["doc"] == "config/main").map(|d| d[of].clone()).unwrap_or_default()
    };
    eventually("lyon holds the document", || lyon("changes") == EDITS);
    mesh.lyon.run(&["doc", "set", "config/main", "lyon", "note=back"]).ok();
    assert_eq!(mesh.lyon.logged("document taken in one piece"), 1, "{}", mesh.lyon.log());
    eventually("the facts are here too", || lyon("to_come") == 0 && lyon("state") == "current");
    eventually("hq reads what lyon wrote", || value(&mesh.hq, "lyon", "note") == "back");
    eventually("both hold the same", || {
        lyon("digest") == mesh.hq.get("/v1/docs/config/main")["digest"] && lyon("changes") == EDITS + 1
    });
    let history = mesh.lyon.get("/v1/docs/config/main/history?limit=0");
    assert_eq!((history["items"].as_array().map(Vec::len), history["to_come"].as_u64()), (Some(EDITS + 1), Some(0)));
}

/// A mesh in which an epoch takes 40 changes.
fn with_short_epochs() -> Mesh {
    let mut mesh = Mesh::found();
    for node in [&mut mesh.hq, &mut mesh.lyon, &mut mesh.porto] {
        node.stop();
        node.set_env("CAULDRON_FAULT", Some("epoch:40"));
        node.start();
        node.until_up();
    }
    mesh.until_converged();
    mesh
}

#[test]
fn a_full_document_goes_on_and_what_came_late_is_said_again() {
    let mut mesh = with_short_epochs();
    let of = |node: &Node, field: &str| node.get("/v1/docs/config/main")[field].clone();
    write_many(&mesh.hq, 10);
    eventually("lyon reads it", || of(&mesh.lyon, "changes") == 10);
    // lyon is cut off and goes on writing; the others fill the epoch and end it.
    mesh.hq.stop();
    mesh.porto.stop();
    mesh.lyon.run(&["doc", "set", "config/main", "late", "note=written in the dark"]).ok();
    mesh.lyon.stop();
    mesh.hq.start();
    mesh.porto.start();
    mesh.hq.until_up();
    mesh.porto.until_up();
    write_many(&mesh.hq, 40);
    eventually("hq and porto sealed it", || of(&mesh.hq, "epoch") == 1 && of(&mesh.porto, "epoch") == 1);
    mesh.hq.run(&["doc", "set", "config/main", "proxy", "port=443"]).ok();
    assert_eq!(mesh.porto.logged("the document goes on in another epoch"), 1, "{}", mesh.porto.log());

    mesh.lyon.start();
    mesh.lyon.until_up();
    eventually("porto reads what came late", || value(&mesh.porto, "late", "note") == "written in the dark");
    eventually("all hold the same", || {
        let digest = of(&mesh.hq, "digest");
        of(&mesh.lyon, "digest") == digest && of(&mesh.porto, "digest") == digest && of(&mesh.lyon, "epoch") == 1
    });
    let history = mesh.porto.items("/v1/docs/config/main/history?limit=0");
    let late: Vec<_> = history.iter().filter(|step| !step["left_out"].is_null()).collect();
    assert!(
        late.len() == 1 && late[0]["left_out"].as_str().is_some_and(|why| why.contains("said it again")),
        "{late:?}"
    );
    // Who set a value in the epoch before is still known, and which fact says so.
    let blame = mesh.porto.items("/v1/docs/config/main/blame");
    let hq = mesh.hq.get("/v1/self")["author"].clone();
    let old = |b: &&serde_json::Value| b["row"].as_str().is_some_and(|row| row.starts_with('r'));
    assert!(blame.iter().filter(old).all(|b| b["author"] == hq && b["fact"].is_string()), "{blame:?}");
    let seals = mesh.porto.items("/v1/audit?limit=200&kind=doc.seal");
    let ends = seals.iter().filter(|f| f["summary"] == "seals epoch 0 of config/main").count();
    assert!(ends >= 2, "{seals:?}");

    mesh.porto.restart();
    mesh.porto.until_up();
    eventually("a restart leads to the same", || of(&mesh.porto, "digest") == of(&mesh.hq, "digest"));
}

#[test]
fn epochs_that_ended_a_while_ago_are_packed_and_read_by_number() {
    let mut mesh = with_short_epochs();
    let of = |node: &Node, field: &str| node.get("/v1/docs/config/main")[field].clone();
    let mut written = 0;
    // A few at a time: two readers agree on an epoch's end in their own time.
    eventually("four epochs end", || {
        for _ in 0..5 {
            let body = serde_json::json!({ "row": format!("r{}", written % 5), "fields": { "value": written } });
            assert_eq!(mesh.hq.post("/v1/docs/config/main", &body).status, 200);
            written += 1;
        }
        of(&mesh.hq, "epoch").as_u64() >= Some(4)
    });
    let history = |node: &Node, of: &str| node.get(&format!("/v1/docs/config/main/history?limit=0{of}"));
    let earlier = |node: &Node| history(node, "")["earlier"].as_array().map_or(0, Vec::len);
    eventually("hq and porto leave the first three to their logs", || {
        earlier(&mesh.hq) == 3 && earlier(&mesh.porto) == 3 && of(&mesh.hq, "digest") == of(&mesh.porto, "digest")
    });
    let read = |node: &Node| {
        let all: Vec<_> = (0..=4).map(|epoch| history(node, &format!("&epoch={epoch}"))["items"].clone()).collect();
        (all, node.get("/v1/docs/config/main/blame")["items"].clone(), of(node, "changes"))
    };
    let before = read(&mesh.porto);
    let steps: usize = before.0.iter().filter_map(|epoch| epoch.as_array()).map(Vec::len).sum();
    // What came when its epoch had ended is said again, unless it was said otherwise since.
    assert!(steps >= written && before.2.as_u64() > Some(4 * 40), "{steps} of {written}, {}", before.2);
    let dir = mesh.porto.dir().display().to_string();
    let table = |more: &[&str]| {
        let args = [&["doc", "history", "config/main", "--node", &dir], more].concat();
        cauldron_tests::cauldron(mesh.folder(), &args).ok().out
    };
    let shown = table(&["-n", "1"]);
    assert!(shown.contains("epochs 0 to 2: --epoch NUMBER"), "{shown}");
    let answer = mesh.porto.try_get("/v1/docs/config/main/history?epoch=99").expect("an answer");
    assert!(answer.status == 400 && answer.body.contains("is in epoch 4, there is no 99 yet"), "{}", answer.body);
    let shown = table(&["-n", "0", "--epoch", "1"]);
    assert!(shown.lines().count() > 40 && !shown.contains("--epoch NUMBER"), "{shown}");

    // A stop in order, one that is none, and a new node that is given old facts: nobody can tell.
    mesh.porto.restart();
    mesh.porto.until_up();
    eventually("a restart leads to the same", || read(&mesh.porto) == before);
    mesh.porto.kill9();
    mesh.porto.start();
    mesh.porto.until_up();
    eventually("so does a crash", || read(&mesh.porto) == before);
    mesh.porto.stop();
    let verified = mesh.porto.run(&["store", "verify"]).ok().out;
    assert!(verified.contains(" packs"), "{verified}");
}

#[test]
fn a_cut_takes_an_authors_changes_out_and_nobody_elses() {
    let mut mesh = Mesh::found();
    mesh.until_converged();
    mesh.lyon.run(&["doc", "set", "config/main", "proxy", "host=good"]).ok();
    eventually("porto reads it", || value(&mesh.porto, "proxy", "host") == "good");
    let ends = mesh.folder().join("cut.entry").display().to_string();
    // Drafted now: the cut names what hq holds of lyon at this moment.
    let lyon = mesh.lyon.get("/v1/self")["author"].as_str().expect("an id").to_owned();
    eventually("hq reads it", || value(&mesh.hq, "proxy", "host") == "good");
    mesh.hq.run(&["authority", "cut", &lyon, "--out", &ends]).ok();
    mesh.lyon.run(&["doc", "set", "config/main", "proxy", "host=evil"]).ok();
    eventually("porto reads that too", || value(&mesh.porto, "proxy", "host") == "evil");
    // porto builds on it.
    mesh.porto.run(&["doc", "set", "config/main", "mail", "relay=porto.example"]).ok();
    eventually("hq has all of it", || value(&mesh.hq, "mail", "relay") == "porto.example");
    mesh.ratify(&ends);
    for node in [&mesh.hq, &mesh.porto] {
        eventually("lyon's later word is gone, porto's stands", || {
            value(node, "proxy", "host") == "good" && value(node, "mail", "relay") == "porto.example"
        });
        let history = node.items("/v1/docs/config/main/history");
        let left = history.iter().filter(|step| !step["left_out"].is_null()).count();
        assert_eq!(left, 2, "both changes that left are told: {history:?}");
    }
}

#[test]
fn doc_check_judges_files_within_a_second() {
    let Some(data) = shared("data/automerge") else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let mut files: Vec<_> = Vec::new();
    collect(&data, &mut files);
    assert!(files.len() >= 17, "{}", files.len());
    let (mut taken, mut refused) = (0, 0);
    for file in &files {
        let begun = Instant::now();
        let run = cauldron(folder.path(), &["doc", "check", &file.display().to_string()]);
        assert!(begun.elapsed() < Duration::from_secs(4), "{}: {:?}", file.display(), begun.elapsed());
        match run.code {
            Some(0) => taken += 1,
            Some(1) => refused += 1,
            other => panic!("{}: {other:?}", file.display()),
        }
    }
    assert!(taken > 0 && refused > 10, "{taken} {refused}");
    // A change as this mesh writes it is taken; the same, garbled, is refused.
    let odd = folder.path().join("odd");
    std::fs::write(&odd, b"neither nor").expect("written");
    cauldron(folder.path(), &["doc", "check", &odd.display().to_string()]).refused_with(1);
    cauldron(folder.path(), &["doc", "check", "missing"]).refused_with(3);
}

fn collect(folder: &Path, files: &mut Vec<std::path::PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("listed") {
        let path = entry.expect("listed").path();
        if path.is_dir() {
            collect(&path, files);
        } else if !path.extension().is_some_and(|e| e == "md" || e == "txt" || e == "note" || e == "upstream") {
            files.push(path);
        }
    }
}
