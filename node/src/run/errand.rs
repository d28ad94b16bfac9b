//! One errand on the enrol lane: asking again until the authority has shown enough of its chain to be believed.

use std::borrow::Cow;

use cauldron_agents::proposal::for_display;
use cauldron_mesh::enrol_client;
use cauldron_mesh::limits::{ENROL_BURST_PER_ADDRESS, ENROL_REFILL};
use cauldron_node_core::enrol::{Believed, EnrolReply, EnrolRequest, Grant, Outcome};

use crate::run::svid::{Applicant, Refused, is_fatal};

/// A stranger's words, shown to a person.
const REASON_BYTES_MAX: usize = 300;
/// Parts of an authority chain that are asked for without a pause: the lane lets so many through from one address, with room for
/// others behind it.
const PARTS_AT_ONCE: u32 = 20;
const _: () = assert!(PARTS_AT_ONCE < ENROL_BURST_PER_ADDRESS);
/// Parts taken on one errand, 128 KiB each: who hands them over is not proven yet.
const PARTS_MAX: u32 = 1_000;

/// Asks until the authority has shown enough of its chain to be believed, and grants or refuses.
pub(super) async fn exchange<'b>(
    address: &str,
    who: &Applicant<'b>,
    request: impl Fn(&[u8; 32]) -> EnrolRequest,
) -> Result<(Grant, Cow<'b, Believed>), Refused> {
    let again = |why: String| Refused { why, fatal: false };
    let mut believed = Cow::Borrowed(who.believed);
    for part in 0..PARTS_MAX {
        if part >= PARTS_AT_ONCE {
            tokio::time::sleep(ENROL_REFILL).await;
        }
        let have = believed.have();
        let request = |exporter: &[u8; 32]| request(exporter).with_chain(have).to_bytes();
        let check = |exporter: &[u8; 32], bytes: &[u8]| {
            EnrolReply::open(bytes, &who.mesh, exporter, &believed).map_err(|e| crate::run::chain(&e))
        };
        match enrol_client(address, request, check).await.map_err(|e| again(crate::run::chain(&e)))? {
            Outcome::Granted(grant) => return Ok((*grant, believed)),
            Outcome::Refused(why) => {
                let fatal = is_fatal(&why.code);
                return Err(Refused { fatal, why: for_display(why.reason.as_bytes(), REASON_BYTES_MAX) });
            }
            Outcome::Part(part) => match believed.to_mut().learn(&who.mesh, *part) {
                Ok(true) => {}
                Ok(false) => break,
                Err(e) => return Err(again(crate::run::chain(&e))),
            },
        }
    }
    Err(again("the authority shows no chain that would make it believed".into()))
}
