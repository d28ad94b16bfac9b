//! Signatures that were found good, remembered: for worlds of a thousand nodes in one process, in which each signature is
//! verified a thousand times. Whether a signature is good depends on nothing but the bytes, so such a world is the same with and
//! without. Without the feature `memo` nothing is remembered, and with it nothing before [`activate`].

#[cfg(feature = "memo")]
thread_local! {
    static GOOD: std::cell::RefCell<Option<std::collections::BTreeSet<[u8; 32]>>> = const { std::cell::RefCell::new(None) };
}

/// Remembers from here on, in this thread.
#[cfg(feature = "memo")]
pub fn activate() {
    GOOD.with_borrow_mut(|good| {
        good.get_or_insert_default();
    });
}

/// The outcome of `verify`, which depends on `input` alone. Only what is good is remembered.
#[cfg(feature = "memo")]
pub(crate) fn once<E>(input: &[&[u8]; 3], verify: impl FnOnce() -> Result<(), E>) -> Result<(), E> {
    if GOOD.with_borrow(Option::is_none) {
        return verify();
    }
    let digest = crate::ids::sha256(&input.concat());
    if GOOD.with_borrow(|good| good.as_ref().is_some_and(|good| good.contains(&digest))) {
        return Ok(());
    }
    verify()?;
    GOOD.with_borrow_mut(|good| good.as_mut().map(|good| good.insert(digest)));
    Ok(())
}

#[cfg(not(feature = "memo"))]
#[inline]
pub(crate) fn once<E>(_input: &[&[u8]; 3], verify: impl FnOnce() -> Result<(), E>) -> Result<(), E> {
    verify()
}

#[cfg(all(test, feature = "memo"))]
mod tests {
    use crate::AuthorKey;

    #[test]
    fn what_is_good_stays_good_and_what_is_bad_is_never_remembered() {
        super::activate();
        let (key, other) = (AuthorKey::from_seed(&[1; 32]), AuthorKey::from_seed(&[2; 32]));
        let signature = key.sign("cauldron/test/v1", b"one");
        for _ in 0..2 {
            assert!(key.public().verify("cauldron/test/v1", b"one", &signature).is_ok());
            assert!(key.public().verify("cauldron/test/v1", b"two", &signature).is_err());
            assert!(other.public().verify("cauldron/test/v1", b"one", &signature).is_err());
        }
    }
}
