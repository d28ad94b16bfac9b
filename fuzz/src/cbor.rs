//! One value, one encoding (docs/wire.md, "Encoding").

use std::fmt::Debug;

use cauldron_identity::codec::{from_cbor, to_cbor};
use minicbor::{Decode, Encode};

/// Decodes as a peer's bytes are decoded. What is accepted must survive being written and read again, and be written as it was
/// read, unless what was read is longer: map keys that this build does not know are passed over.
pub fn one_encoding<T>(bytes: &[u8]) -> Option<T>
where
    T: Encode<()> + for<'b> Decode<'b, ()> + PartialEq + Debug,
{
    let value: T = from_cbor(bytes).ok()?;
    let written = to_cbor(&value);
    assert_eq!(from_cbor::<T>(&written).as_ref(), Ok(&value), "it does not survive its own encoding");
    assert!(written == bytes || written.len() < bytes.len(), "two encodings of one value: {value:?}");
    Some(value)
}

/// The same for types with a field that earlier versions left out, which is written as empty.
pub fn survives<T>(bytes: &[u8]) -> Option<T>
where
    T: Encode<()> + for<'b> Decode<'b, ()> + PartialEq + Debug,
{
    let value: T = from_cbor(bytes).ok()?;
    assert_eq!(from_cbor::<T>(&to_cbor(&value)).as_ref(), Ok(&value), "it does not survive its own encoding");
    Some(value)
}
