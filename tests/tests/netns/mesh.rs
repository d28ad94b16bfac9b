//! One mesh of eight nodes at four sites, through everything that befalls links.

use std::time::Duration;

use cauldron_tests::netns::{Bounds, Fleet, Member, Path, lies};

#[test]
fn smoke() {
    if super::unable("netns::mesh") {
        return;
    }
    let member = |name, site, v6, calls| Member { name, site, v6, calls };
    let members = [
        member("lyon", "lyon", false, &[][..]),
        member("lyon-b", "lyon", false, &["lyon"]),
        member("lyon-c", "lyon", false, &["lyon", "lyon-b"]),
        member("porto", "porto", true, &["lyon"]),
        member("porto-b", "porto", true, &["porto", "lyon-b"]),
        member("oslo", "oslo", false, &["porto", "lyon"]),
        member("oslo-b", "oslo", false, &["oslo"]),
    ];
    let t = std::time::Instant::now();
    let mut fleet = Fleet::found(&members, 7);
    eprintln!("found {:?}", t.elapsed());
    let watch = fleet.watch();
    eprintln!("linked {:?}", fleet.until_linked(Duration::from_secs(30)));
    eprintln!("one state {:?}", fleet.until_one_state(Duration::from_secs(30)));
    std::thread::sleep(Duration::from_secs(20));
    fleet.weather(Path::wan(10, 0.0));
    let samples = watch.end();
    eprintln!("{} samples", samples.len());
    fleet.keep(&samples);
    let (found, judged) = lies(&samples, fleet.truth(), &Bounds::default(), fleet.pairs());
    for lie in found.iter().take(60) {
        eprintln!("{lie:?}");
    }
    eprintln!("{} lies, {judged:?}", found.len());
}
