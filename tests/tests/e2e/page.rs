//! The approval page, over its own port, with a passkey in software where a browser and a device would be.

mod browser;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use browser::{Browser, Key, Reply};
use cauldron_identity::Digest;
use cauldron_identity::passkey::sign_in_challenge;
use cauldron_tests::{Mesh, Plan, append, cauldron, eventually, free_port, wait_until};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use serde_json::{Value, json};

/// A mesh whose hq serves the page on `localhost`.
fn with_page() -> (Mesh, Browser, Key) {
    let port = free_port();
    let origin = format!("http://localhost:{port}");
    let mut mesh = Mesh::found_with(Plan { init: &["--vote-origin", &origin], without_porto: true, ..Plan::default() });
    append(&mesh.hq.config(), format!("\n[page]\nlisten = \"127.0.0.1:{port}\"\nurl = \"{origin}\"\n"));
    mesh.hq.restart();
    mesh.until_up();
    let (browser, key) = (Browser::new(&origin), Key::new(1, "localhost", &origin));
    (mesh, browser, key)
}

/// Makes a passkey on the page, and has the council add it to what ana has.
fn enrol(mesh: &Mesh, browser: &mut Browser, key: &Key) {
    let page = browser.get("/enrol");
    assert!(page.status == 200 && page.body.contains("Make a passkey"), "{page:?}");
    let begun = browser.post("/enrol/begin", &json!({})).json();
    let made = browser.post("/enrol", &key.register(&begun, "ana"));
    assert_eq!(made.status, 200, "{made:?}");
    let again = browser.post("/enrol", &key.register(&begun, "ana"));
    assert_eq!(again.json()["kind"], "nonce", "a nonce is used once");
    let made = made.json();
    assert!(made["command"].as_str().is_some_and(|c| c.contains("people enrol ana")), "{made}");
    let file = mesh.folder().join("passkey.txt");
    std::fs::write(&file, made["line"].as_str().expect("a line")).expect("written");
    let (file, council) = (file.display().to_string(), mesh.hq.dir().join("people/ana.council.key"));
    let args = ["people", "enrol", "ana", "--add", "--yes", "--passkey", &file, "--council-key"];
    mesh.hq.run(&[&args[..], &[&council.display().to_string()]].concat()).ok();
    eventually("the passkey counts", || {
        let people = mesh.hq.get("/v1/authority")["people"].clone();
        people[0]["credentials"].as_array().is_some_and(|all| all.len() == 2)
    });
}

fn sign_in(browser: &mut Browser, key: &Key) -> Reply {
    let begun = browser.post("/sign-in/begin", &json!({ "person": null })).json();
    let answer = key.sign_in(&begun);
    browser.post("/sign-in", &answer)
}

/// Two proposals that wait at hq.
fn two_wait(mesh: &Mesh) -> [(String, String); 2] {
    mesh.log_lines(Mesh::attack("198.51.100.7"));
    mesh.log_lines(Mesh::attack("198.51.100.8"));
    eventually("both wait at hq", || mesh.hq.items("/v1/approvals").len() == 2);
    let items = mesh.hq.items("/v1/approvals");
    let of = |i: usize| {
        let text = |name: &str| items[i][name].as_str().expect("a text").to_owned();
        (text("id"), text("target").rsplit('/').next().expect("an address").to_owned())
    };
    [of(0), of(1)]
}

fn digest_on(mesh: &Mesh, id: &str) -> String {
    mesh.hq.get(&format!("/v1/approvals/{id}"))["presentation_digest"].as_str().expect("a digest").to_owned()
}

fn ask(browser: &Browser, id: &str, choice: &str, shown: &str) -> Reply {
    let body = json!({ "choice": choice, "reason": "seen <b>it</b>", "dwell_ms": 1_200, "shown": shown });
    browser.post(&format!("/approvals/{id}/statement"), &body)
}

fn challenge(asked: &Value) -> Digest {
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(asked["challenge"].as_str().expect("a challenge")).expect("base64url");
    Digest::from_bytes(bytes.try_into().expect("32 bytes"))
}

fn vote(browser: &Browser, id: &str, asked: &Value, answer: &Value) -> Reply {
    let body = json!({ "challenge": asked["challenge"], "answer": answer });
    browser.post(&format!("/approvals/{id}/votes"), &body)
}

#[test]
fn what_a_person_approves_by_passkey_happens_and_every_other_signature_is_refused() {
    let (mesh, mut browser, key) = with_page();
    let stranger = Browser::new(browser.origin());
    assert_eq!(sign_in(&mut browser, &key).json()["kind"], "not_signed_in", "nobody enrolled it yet");
    enrol(&mesh, &mut browser, &key);
    let [(first, good), (second, spared)] = two_wait(&mesh);

    let led = stranger.get(&format!("/approvals/{first}"));
    assert_eq!((led.status, led.header("location")), (303, Some(format!("/?next=/approvals/{first}").as_str())));
    let signed = sign_in(&mut browser, &key);
    assert_eq!(signed.status, 200, "{signed:?}");
    let cookie = signed.header("set-cookie").expect("a cookie");
    assert!(
        cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict") && !cookie.contains("__Host-"),
        "{cookie}"
    );

    let list = browser.page("/approvals");
    assert!(list.contains("What waits for you") && list.contains(&good) && list.contains(&spared), "{list}");
    assert!(!list.contains("What waits for others"), "{list}");
    let page = browser.page(&format!("/approvals/{first}"));
    for text in [
        "What will change",
        "Dry run by the resource",
        "# until",
        "Why",
        "What could go wrong",
        "Undo",
        "Who has voted",
        "What you sign",
        "Failed password",
    ] {
        assert!(page.contains(text), "{text}: {page}");
    }
    assert!(page.contains(&digest_on(&mesh, &first)), "{page}");

    // What is shown is what is signed.
    let shown = digest_on(&mesh, &first);
    assert_eq!(ask(&browser, &first, "approve", &digest_on(&mesh, &second)).json()["kind"], "changed");
    assert_eq!(ask(&browser, &first, "object", &shown).json()["kind"], "not_now");
    let asked = ask(&browser, &first, "approve", &shown).json();
    let statement = BASE64_URL_SAFE_NO_PAD.decode(asked["statement"].as_str().expect("bytes")).expect("base64url");
    assert_eq!(Digest::of("cauldron/vote/v1", &statement), challenge(&asked), "the challenge is the vote's id");
    assert_eq!(asked["allow"], json!([key.id()]));
    let other = ask(&browser, &second, "approve", &digest_on(&mesh, &second)).json();
    let crossed = vote(&browser, &first, &asked, &key.answer(&challenge(&other)));
    assert_eq!(crossed.json()["kind"], "vote_invalid", "signed B under the text of A: {crossed:?}");
    let moved = vote(&browser, &first, &other, &key.answer(&challenge(&other)));
    assert_eq!(moved.json()["kind"], "other_proposal", "{moved:?}");

    // No sign-in is a vote and no vote is a sign-in.
    let asked = ask(&browser, &first, "approve", &shown).json();
    let begun = browser.post("/sign-in/begin", &json!({ "person": null })).json();
    let smuggled = key.sign_in_over(&begun, &challenge(&asked));
    assert_eq!(browser.post("/sign-in", &smuggled).json()["kind"], "not_signed_in");
    let (mesh_id, node) = (begun["mesh"].as_str().expect("hex"), begun["node"].as_str().expect("hex"));
    let own = sign_in_challenge(&mesh_id.parse().expect("an id"), &node.parse().expect("an id"), &challenge(&asked));
    let mut planted = begun.clone();
    planted["nonce"] = challenge(&asked).to_string().into();
    assert_eq!(browser.post("/sign-in", &key.sign_in(&planted)).json()["kind"], "not_signed_in");
    assert_eq!(vote(&browser, &first, &asked, &key.answer(&own)).json()["kind"], "vote_invalid");
    let elsewhere = Key::new(1, "localhost", "http://localhost:1");
    let asked = ask(&browser, &first, "approve", &shown).json();
    let refused = vote(&browser, &first, &asked, &elsewhere.answer(&challenge(&asked)));
    assert!(refused.json()["detail"].as_str().is_some_and(|d| d.contains("passkey")), "{refused:?}");
    let theirs = Key::new(2, "localhost", browser.origin());
    let asked = ask(&browser, &first, "approve", &shown).json();
    assert_eq!(vote(&browser, &first, &asked, &theirs.answer(&challenge(&asked))).status, 409);
    assert!(mesh.hq.facts(&first, "vote").is_empty() && mesh.hq.facts(&second, "vote").is_empty());

    let asked = ask(&browser, &first, "approve", &shown).json();
    let said = vote(&browser, &first, &asked, &key.answer(&challenge(&asked)));
    assert_eq!((said.status, &said.json()["said"]), (200, &"approved".into()), "{said:?}");
    assert_eq!(said.json()["vote"]["counts"], true, "{said:?}");
    let replayed = vote(&browser, &first, &asked, &key.answer(&challenge(&asked)));
    assert_eq!(replayed.json()["kind"], "not_asked", "{replayed:?}");
    eventually("the address stands in the blocklist", || mesh.blocked(&good) == 1);
    let state = || browser.get(&format!("/approvals/{first}/state")).json();
    eventually("the page says so", || state()["state"] == "DONE" && state()["over"] == true);
    let page = browser.page(&format!("/approvals/{first}"));
    assert!(page.contains("seen &lt;b&gt;it&lt;/b&gt;") && page.contains("It has been carried out"), "{page}");
    assert_eq!(mesh.hq.facts(&first, "vote").len(), 1);

    let asked = ask(&browser, &second, "deny", &digest_on(&mesh, &second)).json();
    assert_eq!(vote(&browser, &second, &asked, &key.answer(&challenge(&asked))).status, 200);
    mesh.lyon.until_state(&second, "DENIED");
    assert!(browser.page(&format!("/approvals/{second}")).contains("A no is final"));
    assert_eq!(mesh.blocked(&spared), 0);
}

#[test]
fn a_page_that_the_council_stopped_takes_no_yes_and_still_a_no_and_the_command_line_goes_on() {
    let (mesh, mut browser, key) = with_page();
    enrol(&mesh, &mut browser, &key);
    assert_eq!(sign_in(&mut browser, &key).status, 200);
    let [(first, good), (second, spared)] = two_wait(&mesh);
    // Signed before the stop, handed in after it: nothing that a page took counts any more.
    let early = ask(&browser, &first, "approve", &digest_on(&mesh, &first)).json();
    let stop = ["kill", "--feature", "approval-page", "--reason", "a passkey was stolen", "--out", "stop.order"];
    mesh.hq.run(&stop).ok();
    mesh.ratify("stop.order");
    eventually("lyon knows", || !mesh.lyon.items("/v1/restrictions").is_empty());

    let refused = ask(&browser, &first, "approve", &digest_on(&mesh, &first));
    let told = refused.json();
    assert_eq!((refused.status, &told["kind"]), (409, &"stopped".into()), "{told}");
    assert!(told["detail"].as_str().is_some_and(|d| d.contains("a passkey was stolen")), "{told}");
    assert!(told["hint"].as_str().is_some_and(|h| h.contains("cauldron approvals approve")), "{told}");
    let late = vote(&browser, &first, &early, &key.answer(&challenge(&early)));
    assert!([200, 409].contains(&late.status), "{late:?}");
    let asked = ask(&browser, &second, "deny", &digest_on(&mesh, &second)).json();
    assert_eq!(vote(&browser, &second, &asked, &key.answer(&challenge(&asked))).status, 200, "a no is taken: {asked}");
    mesh.lyon.until_state(&second, "DENIED");
    assert_eq!((mesh.hq.state(&first).as_str(), mesh.blocked(&good)), ("PENDING_APPROVAL", 0));

    mesh.approve(&first).ok();
    mesh.lyon.until_state(&first, "DONE");
    assert_eq!((mesh.blocked(&good), mesh.blocked(&spared)), (1, 0));
}

#[test]
fn the_page_takes_requests_from_itself_alone_within_its_bounds() {
    let (mesh, mut browser, key) = with_page();
    enrol(&mesh, &mut browser, &key);
    assert_eq!(sign_in(&mut browser, &key).status, 200);
    let home = Browser::new(browser.origin()).page("/");
    let css =
        home.split("href=\"").find(|part| part.contains(".css")).and_then(|p| p.split('"').next()).expect("a sheet");

    for path in ["/", "/enrol", "/approvals", "/status", "/nowhere", "/approvals/zz", "/approvals/state", css] {
        let reply = browser.get(path);
        for (name, part) in [
            ("content-security-policy", "default-src 'none'; script-src 'self'"),
            ("x-content-type-options", "nosniff"),
            ("referrer-policy", "no-referrer"),
            ("cross-origin-opener-policy", "same-origin"),
            ("cache-control", if path == css { "immutable" } else { "no-store" }),
        ] {
            assert!(reply.header(name).is_some_and(|value| value.contains(part)), "{path} {name}: {reply:?}");
        }
        assert!(reply.header("strict-transport-security").is_none());
    }
    let status = browser.page("/status");
    assert!(status.contains("Active") && status.contains(&Mesh::site_id("lyon")["spiffe://".len()..]), "{status}");

    // From elsewhere, without the token, under another name.
    let out = json!({});
    let evil = browser.send("POST", "/sign-out", &[("origin", "https://evil.example")], Some(&out));
    assert_eq!(evil.json()["kind"], "cross_origin");
    let framed = browser.send("POST", "/sign-out", &[("sec-fetch-site", "cross-site")], Some(&out));
    assert_eq!(framed.json()["kind"], "cross_origin");
    let form = browser.send("POST", "/sign-out", &[("content-type", "text/plain")], Some(&out));
    assert_eq!(form.status, 415);
    let bare = browser.send("POST", "/sign-out", &[("x-cauldron-csrf", "")], Some(&out));
    assert_eq!(bare.json()["kind"], "csrf");
    assert_eq!(browser.send("GET", "/status", &[("host", "evil.example")], None).status, 421);
    assert_eq!(browser.send("PUT", "/status", &[], None).status, 405);
    assert_eq!(browser.get("/status").status, 200, "still signed in");

    // Too long, too slow, too often.
    let long = json!({ "person": "x".repeat(70_000) });
    assert_eq!(browser.post("/sign-in/begin", &long).status, 413);
    let wide = browser.send("GET", "/status", &[("x-pad", &"x".repeat(40_000))], None);
    assert!(wide.status == 431 || wide.status == 0, "{wide:?}");
    let mut slow = TcpStream::connect(browser.address()).expect("connects");
    slow.write_all(b"GET / HTTP/1.1\r\nhost:").expect("written");
    slow.set_read_timeout(Some(Duration::from_secs(20))).expect("set");
    let begun = Instant::now();
    let _ = slow.read_to_end(&mut Vec::new());
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());

    assert_eq!(browser.post("/sign-out", &out).status, 200);
    assert_eq!(browser.get("/status").status, 303);
    // A person who does not exist is given a passkey like one who does, and always the same.
    let allow = |person: &str| browser.post("/sign-in/begin", &json!({ "person": person })).json()["allow"].clone();
    let (ana, nobody) = (allow("ana"), allow("nobody"));
    assert_eq!((ana[0].as_str(), &nobody), (Some(key.id().as_str()), &allow("nobody")));
    assert_eq!(nobody[0].as_str().map(str::len), Some(key.id().len()));
    let statuses: Vec<u16> =
        (0..30).map(|_| browser.post("/sign-in/begin", &json!({ "person": null })).status).collect();
    assert!(statuses.contains(&429), "{statuses:?}");
}

/// lyon alone: the coordinator is gone, and what was signed before it is back counts.
#[test]
fn a_site_that_is_cut_off_still_shows_and_takes_votes_and_says_what_its_page_is_worth() {
    let ports = [free_port(), free_port()];
    let [first, second] = ports.map(|port| format!("http://localhost:{port}"));
    let init = ["--vote-origin", &first, "--vote-origin", &second];
    let mut mesh = Mesh::found_with(Plan { init: &init, without_porto: true, ..Plan::default() });
    for (node, (port, origin)) in [&mut mesh.hq, &mut mesh.lyon].into_iter().zip(ports.iter().zip([&first, &second])) {
        append(&node.config(), format!("\n[page]\nlisten = \"127.0.0.1:{port}\"\nurl = \"{origin}\"\n"));
        node.restart();
    }
    mesh.until_up();
    let (mut at_hq, mut at_lyon) = (Browser::new(&first), Browser::new(&second));
    enrol(&mesh, &mut at_hq, &Key::new(5, "localhost", &first));
    eventually("lyon knows the passkey", || {
        mesh.lyon.get("/v1/authority")["people"][0]["credentials"].as_array().is_some_and(|all| all.len() == 2)
    });
    let [(id, address), _] = two_wait(&mesh);
    eventually("lyon holds the decision", || mesh.lyon.items("/v1/approvals").len() == 2);

    mesh.hq.stop();
    let key = Key::new(5, "localhost", &second);
    assert_eq!(sign_in(&mut at_lyon, &key).status, 200);
    eventually("lyon notices", || at_lyon.page("/status").contains("No other node is connected"));
    let page = at_lyon.page(&format!("/approvals/{id}"));
    assert!(page.contains("The node that serves this page proposed this and would carry it out"), "{page}");
    assert!(page.contains("Failed password"), "{page}");
    let shown = mesh.lyon.get(&format!("/v1/approvals/{id}"))["presentation_digest"].as_str().expect("hex").to_owned();
    let asked = ask(&at_lyon, &id, "approve", &shown).json();
    assert_eq!(vote(&at_lyon, &id, &asked, &key.answer(&challenge(&asked))).status, 200, "{asked}");
    let state = at_lyon.get(&format!("/approvals/{id}/state")).json();
    assert!(
        state["state"] == "APPROVED" && state["why"].to_string().contains("no coordinator is connected"),
        "{state}"
    );
    assert_eq!(mesh.blocked(&address), 0, "no permit yet");

    mesh.hq.start();
    mesh.until_up();
    eventually("the address stands in the blocklist", || mesh.blocked(&address) == 1);
}

/// A certificate for `localhost` under a new authority, and what a browser trusts to accept it.
fn certify(folder: &Path, name: &str) -> rustls::RootCertStore {
    let mut ca = CertificateParams::new(Vec::new()).expect("parameters");
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca_key = KeyPair::generate().expect("a key");
    let root = ca.self_signed(&ca_key).expect("signed");
    let issuer = Issuer::new(ca, ca_key);
    let key = KeyPair::generate().expect("a key");
    let leaf = CertificateParams::new(vec!["localhost".to_owned()]).expect("parameters");
    let leaf = leaf.signed_by(&key, &issuer).expect("signed");
    let write = |ending: &str, text: String| {
        let path = folder.join(format!("{name}.{ending}"));
        std::fs::write(&path, text).expect("written");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("chmod");
    };
    write("pem", leaf.pem());
    write("key", key.serialize_pem());
    let mut roots = rustls::RootCertStore::empty();
    roots.add(root.der().clone()).expect("a root");
    roots
}

#[test]
fn with_a_certificate_the_page_speaks_tls_and_takes_up_a_new_one() {
    let port = free_port();
    let origin = format!("https://localhost:{port}");
    let mut mesh = Mesh::only_hq(Plan { init: &["--vote-origin", &origin], ..Plan::default() });
    let roots = certify(mesh.folder(), "page");
    let (cert, key) = (mesh.folder().join("page.pem"), mesh.folder().join("page.key"));
    append(
        &mesh.hq.config(),
        format!(
            "\n[page]\nlisten = \"127.0.0.1:{port}\"\nurl = \"{origin}\"\ncertificate = \"{}\"\nkey = \"{}\"\n",
            cert.display(),
            key.display()
        ),
    );
    mesh.hq.stop();
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).expect("chmod");
    mesh.hq.start();
    assert!(!mesh.hq.until_ended().success());
    assert!(mesh.hq.logged("chmod 600") > 0, "{}", mesh.hq.log());
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).expect("chmod");
    mesh.hq.start();
    mesh.hq.until_up();

    let mut browser = Browser::with_roots(&origin, roots.clone());
    let home = browser.get("/");
    assert_eq!(home.status, 200, "{home:?}");
    assert!(home.header("strict-transport-security").is_some_and(|v| v.contains("max-age=")), "{home:?}");
    let passkey = Key::new(3, "localhost", &origin);
    enrol(&mesh, &mut browser, &passkey);
    let signed = sign_in(&mut browser, &passkey);
    let cookie = signed.header("set-cookie").expect("a cookie");
    assert!(cookie.starts_with("__Host-") && cookie.contains("; Secure") && cookie.contains("Path=/;"), "{cookie}");
    assert!(browser.page("/approvals").contains("Nothing waits for you"));

    let renewed = certify(mesh.folder(), "page");
    let fresh = Browser::with_roots(&origin, renewed);
    wait_until("the new certificate is served", Duration::from_secs(20), || match fresh.try_get("/") {
        Ok(reply) if reply.status == 200 => Ok(()),
        other => Err(format!("{other:?}")),
    });
    assert!(Browser::with_roots(&origin, roots).try_get("/").is_err(), "the old one is served no longer");
    std::fs::write(&cert, "no certificate").expect("written");
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(fresh.get("/").status, 200, "a broken file changes nothing");
}

#[test]
fn a_page_that_is_not_in_the_charter_answers_nobody_until_it_is() {
    let port = free_port();
    let origin = format!("http://localhost:{port}");
    let mut mesh = Mesh::only_hq(Plan::default());
    append(&mesh.hq.config(), format!("\n[page]\nlisten = \"127.0.0.1:{port}\"\nurl = \"{origin}\"\n"));
    mesh.hq.restart();
    let browser = Browser::new(&origin);
    let reply = browser.get("/");
    assert!(
        reply.status == 503 && reply.body.contains("charter amend") && reply.body.contains("vote_origins"),
        "{reply:?}"
    );
    assert!(mesh.hq.logged("the approval page answers nobody") == 1, "{}", mesh.hq.log());

    let folder = mesh.folder().to_owned();
    let dir = mesh.hq.dir().display().to_string();
    let run = |args: &[&str]| cauldron(&folder, &[args, &["--node", &dir]].concat()).ok();
    let charter = run(&["charter", "amend", "--print"])
        .out
        .replace("vote_origins = []", &format!("vote_origins = [\"{origin}\"]"));
    assert!(charter.contains(&origin), "{charter}");
    std::fs::write(folder.join("charter.toml"), charter).expect("written");
    run(&["charter", "amend", "charter.toml", "--out", "amend.entry"]);
    let council = mesh.hq.dir().join("people/ana.council.key").display().to_string();
    run(&["authority", "sign", "amend.entry", "--key", &council, "--yes"]);
    run(&["authority", "submit", "amend.entry"]);
    eventually("the page answers", || browser.get("/").status == 200);
}
