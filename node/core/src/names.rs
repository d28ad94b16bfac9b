//! One word for each thing that people and programs meet.

use cauldron_identity::authority::Standing;

/// The API's word for a standing.
pub(crate) fn standing(standing: Standing) -> &'static str {
    match standing {
        Standing::Counts => "counts",
        Standing::Pending => "pending",
        Standing::BeyondCut => "beyond_cut",
        Standing::Suspended => "suspended",
        Standing::Unknown => "unknown",
    }
}
