//! Mints of budgets: once per window, for a life that lasts, in effect once held.

use super::*;
use crate::budget::{Budget, Life, Mint, WINDOW_MS_MIN};
use crate::codec::{from_cbor, to_cbor};

const DAY_MS: u64 = 86_400_000;

fn mint(window: u64, window_ms: u64, holder: &AuthorKey) -> Mint {
    let holder = Life { author: holder.author_id(), incarnation: 0 };
    Mint { budget: Budget::new("blocks").expect("a name"), window, amount: 200, holder, window_ms }
}

fn refused(mesh: &mut Mesh, mint: Mint) -> String {
    mesh.write(&Entry::Mint(mint), &[]).expect("refused")
}

#[test]
fn golden_bytes_of_a_mint() {
    let holder = Life { author: AuthorId::from_bytes([7; 32]), incarnation: 1 };
    let budget = Budget::new("blocks").expect("a name");
    let entry = Entry::Mint(Mint { budget, window: 20_000, amount: 200, holder, window_ms: DAY_MS });
    let bytes = to_cbor(&entry);
    let author = "07".repeat(32);
    let golden = format!("820881a50066626c6f636b7301194e200218c803a2005820{author}0101041a05265c00");
    assert_eq!(hex::encode(&bytes), golden);
    assert_eq!(from_cbor::<Entry>(&bytes), Ok(entry));
}

#[test]
fn a_window_is_minted_once_and_windows_of_one_budget_are_equally_long() {
    let (mut mesh, lyon) = (Mesh::found(), key(3));
    mesh.enrol(&lyon, "lyon");
    assert_eq!(mesh.write(&Entry::Mint(mint(5, DAY_MS, &key(2))), &[]), None);
    assert!(refused(&mut mesh, mint(5, DAY_MS, &lyon)).contains("already"));
    assert!(refused(&mut mesh, mint(6, DAY_MS / 2, &lyon)).contains("last 86400000 ms"));
    assert_eq!(mesh.write(&Entry::Mint(mint(6, DAY_MS, &lyon)), &[]), None);
    assert_eq!(mesh.authority.window_ms(&Budget::new("blocks").expect("a name")), Some(DAY_MS));
    assert_eq!(mesh.authority.mints().count(), 0, "nobody but the sequencer holds them");
    mesh.hold(&lyon);
    let windows: Vec<u64> = mesh.authority.mints().map(|(_, _, mint)| mint.window).collect();
    assert_eq!(windows, [5, 6]);
}

#[test]
fn what_does_not_go_together_or_would_be_lost_is_refused() {
    let (mut mesh, lyon) = (Mesh::found(), key(3));
    mesh.enrol(&lyon, "lyon");
    assert!(refused(&mut mesh, Mint { amount: 0, ..mint(1, DAY_MS, &lyon) }).contains("nothing"));
    assert!(refused(&mut mesh, mint(1, 0, &lyon)).contains("window 0 alone"));
    assert!(refused(&mut mesh, mint(0, DAY_MS, &lyon)).contains("count from 1"));
    assert!(refused(&mut mesh, mint(1, WINDOW_MS_MIN - 1, &lyon)).contains("or more"));
    assert!(refused(&mut mesh, mint(1, DAY_MS, &key(9))).contains("not enrolled"));
    let id = mesh.authority.mesh();
    assert_eq!(mesh.write(&Entry::Incarnate(Incarnate::new(&id, &lyon, 1, vec![])), &[]), None);
    assert!(refused(&mut mesh, mint(1, DAY_MS, &lyon)).contains("is over"));
    let ends = mesh.authority.ends_in(&Scope::mesh());
    assert_eq!(ends.into_iter().collect::<Vec<_>>(), [((lyon.author_id(), 0), 0)]);
}
