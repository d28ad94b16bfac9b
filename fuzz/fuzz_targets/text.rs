//! Names and other words from outside, and a join token. What is read prints as something that reads the same.
//!
//! Input: a door, then 0 a SPIFFE ID, 1 a scope, 2 a resource, 3 hex of an id, key or digest, 4 a join token, 5 what a join token
//! carries, with its checksum put right, 6 canonical JSON, 7 the arguments of an operation.
#![no_main]

#[allow(dead_code, reason = "the node's own module, which no library exports")]
#[path = "../../node/src/token.rs"]
mod token;

use std::fmt::{Debug, Display};
use std::str::FromStr;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use cauldron_coordinator::action::{Action, Catalogue, Resource};
use cauldron_coordinator::json;
use cauldron_fuzz::chunks::door;
use cauldron_fuzz::hostile::Memory;
use cauldron_fuzz::{hostile, ready};
use cauldron_identity::ids::sha256;
use cauldron_identity::{FactId, PublicKey, Role, Scope, spiffe_id};
use libfuzzer_sys::fuzz_target;
use token::JoinToken;

/// JSON numbers of one byte become values of 80.
const MEMORY: Memory = Memory { base: 256 * 1024, per_byte: 512 };

fuzz_target!(init: ready(), |input: &[u8]| hostile(input, MEMORY, |input| {
    let (door, rest) = door(input);
    let text = String::from_utf8_lossy(rest);
    match door % 8 {
        0 => named(&text),
        1 => same::<Scope>(&text),
        2 => same::<Resource>(&text),
        3 => {
            same::<FactId>(&text);
            same::<PublicKey>(&text);
        }
        4 => drop(JoinToken::decode(&text).map(|token| assert_eq!(JoinToken::decode(&token.encode()), Ok(token)))),
        5 => {
            let whole = [rest, &sha256(rest)[..4]].concat();
            let text = format!("cauldron1.{}", BASE64_URL_SAFE_NO_PAD.encode(whole));
            drop(JoinToken::decode(&text).map(|token| assert_eq!(JoinToken::decode(&token.encode()), Ok(token))));
        }
        6 => drop(json::from_canonical(rest).map(|value| assert_eq!(json::canonical(&value).as_deref(), Ok(rest)))),
        _ => drop(Action::parse(Catalogue::built_in(), "security.address.block/blocklist", rest).map(|action| {
            assert_eq!(action.bytes(), rest, "two encodings of one action");
        })),
    }
}));

fn same<T: FromStr + Display + PartialEq + Debug>(text: &str) {
    if let Ok(read) = text.parse::<T>() {
        assert!(read.to_string().parse::<T>().is_ok_and(|again| again == read), "{read} reads as something else");
    }
}

fn named(text: &str) {
    let Ok(id) = spiffe_id::parse(text) else { return };
    assert_eq!(spiffe_id::parse(&id.to_string()).as_ref(), Ok(&id));
    if let Ok(role) = Role::of(&id) {
        let _ = (role.site(), role.name(), role.is_peer());
        assert!(!spiffe_id::is_agent_of(&id, &id), "an agent of itself");
    }
}
