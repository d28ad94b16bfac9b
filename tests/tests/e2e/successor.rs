//! A lost or compromised coordinator: the council names a new one on a fresh box with a root key of its own, and the mesh
//! follows; the old one, still running, is told that it is the authority no more.

use std::path::Path;

use cauldron_tests::{Mesh, Node, cauldron, eventually, free_port};

/// Lets a node know of one peer alone, from its next start on.
fn dials_only(config: &Path, address: &str) {
    let text = std::fs::read_to_string(config).expect("readable");
    let line = text.lines().find(|line| line.starts_with("join = [")).expect("it dials somebody");
    std::fs::write(config, text.replacen(line, &format!("join = [\"{address}\"]"), 1)).expect("writable");
}

fn listens(node: &Node) -> String {
    let text = std::fs::read_to_string(node.config()).expect("written by join");
    let line = text.lines().find_map(|line| line.strip_prefix("listen = \"")).expect("it listens");
    line.trim_end_matches('"').to_owned()
}

fn up(node: &Node, peer: &str) -> bool {
    node.items("/v1/peers").iter().any(|p| !p["connected_ms"].is_null() && p["spiffe_id"].as_str() == Some(peer))
}

#[test]
fn the_council_names_a_new_sequencer_on_a_fresh_box_and_two_authorities_are_told_apart() {
    let mut mesh = Mesh::found();
    let folder = mesh.folder().to_owned();
    let file = |name: &str| folder.join(name).display().to_string();
    let (export, term) = (file("mesh.export"), file("term.entry"));
    let council = mesh.hq.dir().join("people/ana.council.key").display().to_string();
    let (hq_id, lyon_id, porto_id) =
        ("spiffe://acme.example/coordinator/hq", Mesh::site_id("lyon"), Mesh::site_id("porto"));
    mesh.until_converged();

    // hq is not to be trusted any more, and still runs. lyon's operator has its chain, the council its keys.
    mesh.lyon.run(&["authority", "export", "--out", &export]).ok();
    std::fs::write(file("torn"), &std::fs::read(&export).expect("readable")[1..]).expect("written");
    let address = format!("127.0.0.1:{}", free_port());
    let lyon = listens(&mesh.lyon);
    let init = |export: &str, name: &str| {
        let args = ["init", "--successor", export, "--name", name, "--listen", &address, "--join", &lyon];
        cauldron(&folder, &[&args[..], &["--output", "json"]].concat())
    };
    init(&file("torn"), "hq-2").refused_with(6);
    assert!(init(&export, "hq").refused_with(2).contains("to be replaced"));
    let prepared = init(&export, "hq-2").ok().json();
    let text = |pointer: &str| prepared[pointer].as_str().expect("printed").to_owned();
    let (id, author, root) = (text("spiffe_id"), text("author_key"), text("root_key"));
    let mut successor = Node::new(mesh.folder(), "hq-2");
    successor.start();
    eventually("it answers, and is nobody", || {
        successor.try_get("/v1/self").is_some()
            && successor.get("/v1/self")["reasons"].to_string().contains("enrolment")
    });

    let draft = ["authority", "term", "--sequencer", &id, "--author-key", &author, "--root-key", &root, "--out", &term];
    mesh.lyon.run(&draft).ok();
    mesh.lyon.run(&["authority", "sign", &term, "--key", &council, "--yes"]).ok();

    // lyon learns where it is; hq and porto are cut off from both, and hear nothing.
    let learns = |node: &mut Node| {
        dials_only(&node.config(), &address);
        node.restart();
        node.until_up();
    };
    learns(&mut mesh.lyon);
    successor.run(&["authority", "submit", &term]).ok();
    mesh.lyon.run(&["authority", "submit", &term]).ok();
    eventually("lyon left hq for its successor", || up(&mesh.lyon, &id) && !up(&mesh.lyon, hq_id));
    eventually("lyon renewed under the new root", || {
        let roots = successor.get("/v1/authority")["roots"].clone();
        roots[0]["key"] == root.as_str()
            && roots[0]["under"].as_array().is_some_and(|all| all.contains(&lyon_id.as_str().into()))
    });
    assert_eq!(mesh.lyon.get("/v1/self")["svid"]["valid"], true);

    // hq goes on as an authority for whoever has not heard: it issues, porto hears of it, and then of the term.
    mesh.hq.restart();
    mesh.hq.until_up();
    eventually("porto has what hq issued since", || {
        let issued = mesh.porto.items("/v1/authority/issued");
        up(&mesh.porto, hq_id) && issued.iter().filter(|line| line["spiffe_id"] == hq_id).count() > 1
    });
    learns(&mut mesh.porto);
    mesh.porto.run(&["authority", "submit", &term]).ok();
    eventually("porto follows too", || up(&mesh.porto, &id) && up(&successor, &porto_id));
    eventually("two authorities are told apart", || {
        let problems = successor.get("/v1/authority")["problems"].clone();
        problems[0].as_str().is_some_and(|p| p.contains("two authorities were active at once") && p.contains(hq_id))
    });
    let shown = successor.run(&["authority", "show"]).ok().out;
    assert!(shown.contains("two authorities were active at once"), "{shown}");

    // Told of the term, hq says so itself, and issues nothing more.
    mesh.hq.run(&["authority", "submit", &term]).ok();
    eventually("hq knows that it is over", || {
        let problems = mesh.hq.get("/v1/authority")["problems"].to_string();
        problems.contains("holds a certificate authority that is not the mesh's")
    });
    assert!(mesh.hq.get("/v1/self")["reasons"].to_string().contains("it signs nothing"));
    let token = mesh.hq.run(&["authority", "token", &Mesh::site_id("quito")]);
    assert!(token.refused_with(5).contains(&id), "{}", token.err);

    // Everything goes on under the new one: a node joins, a desk decides.
    let minted = successor.run(&["authority", "token", &Mesh::site_id("quito")]).ok().json();
    mesh.join_with(minted["token"].as_str().expect("minted"), &[]).ok();
    let mut quito = Node::new(mesh.folder(), "quito");
    quito.start();
    quito.until_up();
    mesh.hq.stop();
    mesh.log_lines(Mesh::attack("203.0.113.77"));
    let mut proposal = String::new();
    eventually("lyon's agent proposes, and the new desk has it", || {
        let waiting = successor.items("/v1/approvals");
        proposal = waiting.first().and_then(|p| p["id"].as_str()).unwrap_or_default().to_owned();
        !proposal.is_empty()
    });
    let vote = mesh.hq.dir().join("people/ana.key").display().to_string();
    successor.run(&["approvals", "approve", &proposal, "--yes", "--key", &vote]).ok();
    eventually("the block is there", || mesh.blocked("203.0.113.77") == 1);
}
