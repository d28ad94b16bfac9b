use clap::{CommandFactory, Parser};

use super::*;

fn parsed(line: &str) -> Result<Cli, String> {
    Cli::try_parse_from(line.split_whitespace()).map_err(|e| e.to_string())
}

#[test]
fn the_command_line_is_well_formed() {
    Cli::command().debug_assert();
}

#[test]
fn the_vocabulary_is_there() {
    for line in [
        "cauldron init --first --trust-domain acme.test --dir hq --name hq --listen 127.0.0.1:7443",
        "cauldron init --coordinator mesh.export --name west --join hq:7443 --join lyon:7443",
        "cauldron node run --config node.toml",
        "cauldron node join cauldron1.abc --dir lyon --config lyon.toml",
        "cauldron demo --once --output json --keep d --auth-log f --block-ttl 20s --sabotage forged-permit",
        "cauldron status -o yaml",
        "cauldron check",
        "cauldron check --pre --config node.toml",
        "cauldron peers --socket /run/n.sock",
        "cauldron sites --node lyon",
        "cauldron why 0123abcd",
        "cauldron proposals",
        "cauldron proposals 0123abcd",
        "cauldron propose --file p.json",
        "cauldron undo 0123abcd --reason wrong --by ana --yes",
        "cauldron reconcile 0123abcd --happened no --reason looked --key k",
        "cauldron approvals list",
        "cauldron approvals show 0123abcd",
        "cauldron approvals approve 0123abcd --yes --key k --reason ok",
        "cauldron approvals deny 0123abcd",
        "cauldron veto 0123abcd --reason no",
        "cauldron kill --all --reason stop",
        "cauldron kill --feature connector/blocklist --reason stop --wait 30s --yes",
        "cauldron kill --build 0123abcd --reason stop --out stop.order",
        "cauldron veto 0123abcd --reason no --wait 5s",
        "cauldron suspend spiffe://acme.test/site/lyon/node/lyon --reason stolen --wait 5s --yes",
        "cauldron kill --site lyon --reason fire --signed --key bo.key --wait 5s --yes",
        "cauldron veto 0123abcd --reason never --signed --key-in-agent bo.pub",
        "cauldron kill --agent spiffe://acme.test/site/lyon/node/lyon/agent/x --reason odd --signed --key-in-agent bo.pub --yes",
        "cauldron restrictions",
        "cauldron restrictions 0123abcd",
        "cauldron lift 0123abcd 4567abcd --reason over --out l.entry",
        "cauldron autonomy list",
        "cauldron autonomy grant --build 0000000000000000000000000000000000000000000000000000000000000000 --class a.b.c/d --site lyon --level L3 --for 30d --votes-r2 0 --reason r --out a.entry",
        "cauldron autonomy revoke --build 0000000000000000000000000000000000000000000000000000000000000000 --class a.b.c/d --site lyon --reason r --out a.entry",
        "cauldron ownership list",
        "cauldron ownership offer lyon/lyon/blocklist --to spiffe://acme.test/site/lyon/node/lyon-2 --yes",
        "cauldron ownership accept 0123abcd",
        "cauldron ownership reassign lyon/lyon/blocklist --from 0000000000000000000000000000000000000000000000000000000000000000 --to spiffe://acme.test/site/lyon/node/lyon-2 --fencing none --out r.entry",
        "cauldron ownership attest r.entry --person ana --key ana.key --yes",
        "cauldron isolation show",
        "cauldron isolation grant lyon --acting spiffe://acme.test/site/lyon/node/lyon --r0 30d --r1 7d --r2 72h --group duty --escrow blocks --lift 2 --out g.entry",
        "cauldron isolation grant lyon --withdraw --out g.entry",
        "cauldron isolation lift 0000000000000000000000000000000000000000000000000000000000000000 --reason drill --key k --yes",
        "cauldron break-glass issue spiffe://acme.test/site/lyon/node/lyon --count 3 --for 90d --tokens d --out b.entry",
        "cauldron break-glass use --token d/token-1 --proposal 0123abcd --reason fire --yes",
        "cauldron break-glass list",
        "cauldron break-glass review 0123abcd --note ok --key k",
        "cauldron audit tail -n 5 --follow",
        "cauldron audit show 0123abcd",
        "cauldron audit verify",
        "cauldron audit receipt 0123abcd --out r.json",
        "cauldron audit check r.json --mesh 0000000000000000000000000000000000000000000000000000000000000000",
        "cauldron approvals approve 0123abcd --agent id.pub --yes",
        "cauldron init --first --trust-domain acme.test --council a.pub --council b.pub --threshold 2 --person-key c.pub",
        "cauldron charter sign charter.draft --key ana.key --yes",
        "cauldron charter sign charter.draft --message m --mesh 0000000000000000000000000000000000000000000000000000000000000000",
        "cauldron people enrol bo --group g --public-key k --out bo.entry",
        "cauldron authority sign bo.entry --agent id.pub",
        "cauldron authority submit bo.entry",
        "cauldron key new ana.key --council ana --passphrase-file p",
        "cauldron key show ana.key",
        "cauldron key seal author.key --secret-file s",
        "cauldron key unseal ana.key",
        "cauldron people list",
        "cauldron people enrol bo --group security-duty --new-key bo.key --council-key c.key",
        "cauldron charter show",
        "cauldron authority token spiffe://acme.test/site/lyon/node/lyon --ttl 10m",
        "cauldron authority show",
        "cauldron identity show",
        "cauldron identity verify svid.pem --at 2026-11-24T10:00:00Z",
        "cauldron policy eval --input i.json",
        "cauldron policy check --bundle deploy/policies",
        "cauldron policy test",
        "cauldron policy explain --input i.json --bundle packed.bundle",
        "cauldron policy bundle --bundle deploy/policies --out packed.bundle",
        "cauldron agent replay sshd-bruteforce --input auth.log --output json",
        "cauldron store verify",
        "cauldron completions bash",
        "cauldron man",
        "cauldron version",
    ] {
        parsed(line).unwrap_or_else(|e| panic!("{line}\n{e}"));
    }
}

#[test]
fn lines_that_make_no_sense_are_refused() {
    for line in [
        "cauldron",
        "cauldron init --trust-domain acme.test",
        "cauldron init --first --trust-domain Acme_Example!",
        "cauldron demo --sabotage x",
        "cauldron check --config node.toml",
        "cauldron check --pre",
        "cauldron kill --reason x",
        "cauldron kill --all --site lyon --reason x",
        "cauldron kill --all --reason x --wait 5s --out f",
        "cauldron lift --reason x --out f",
        "cauldron lift 0123abcd --out f",
        "cauldron autonomy grant --class a.b.c/d --site lyon --level L9 --for 30d --reason r --out f",
        "cauldron kill --all --reason fire --signed --out k.order --yes",
        "cauldron ownership reassign lyon/lyon/blocklist --from zz --to x --fencing none --out f",
        "cauldron agent replay other --input f",
        "cauldron isolation grant lyon --out g.entry",
        "cauldron break-glass use --proposal 0123abcd --reason fire",
        "cauldron reconcile 0123abcd --reason looked",
        "cauldron reconcile 0123abcd --happened maybe --reason looked",
        "cauldron status --output xml",
        "cauldron people enrol bo --group g --council-key c",
    ] {
        assert!(parsed(line).is_err(), "{line}");
    }
}

#[test]
fn an_id_cannot_become_another_path() {
    assert_eq!(segment("0123abcd"), "0123abcd");
    assert_eq!(segment("../authority?x=1#y é"), "..%2Fauthority%3Fx%3D1%23y%20%C3%A9");
    assert_eq!(segment("spiffe://a/b"), "spiffe%3A%2F%2Fa%2Fb");
}

#[test]
fn flags_name_the_node() {
    let global = |line: &str| parsed(line).expect(line).global;
    assert_eq!(global("cauldron status --socket /a/b.sock").client().socket(), std::path::Path::new("/a/b.sock"));
    let by_dir = global("cauldron status --node /data/lyon");
    assert_eq!(by_dir.client().socket(), std::path::Path::new("/data/lyon/node.sock"));
    assert_eq!(by_dir.data_dir().root(), std::path::Path::new("/data/lyon"));
    let by_socket = global("cauldron status --socket /data/hq/node.sock");
    assert_eq!(by_socket.data_dir().root(), std::path::Path::new("/data/hq"));
}

#[test]
fn without_a_terminal_only_yes_means_yes() {
    use std::io::IsTerminal;
    assert_eq!(confirm("really?", true), Ok(()));
    if !std::io::stdin().is_terminal() {
        assert_eq!(confirm("really?", false).expect_err("nobody there").kind().exit_code(), 2);
    }
}
