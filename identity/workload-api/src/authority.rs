//! Lets in clients built on gRPC's C core (Python, C++, Ruby, C#, PHP), which send the percent-encoded path of a Unix socket as
//! `:authority`. RFC 3986 allows that; the `http` crate below our server does not, and the stream would end in
//! `PROTOCOL_ERROR`. Nobody reads the authority of a call on a Unix socket, so each `%` in it becomes a `-` before it is parsed:
//! same length, so that neither frames (RFC 9113 §4) nor header compression (RFC 7541) notice.

/// Bytes of the client's preface (RFC 9113 §3.4).
const PREFACE_LEN: usize = 24;
const FRAME_HEADER_LEN: usize = 9;
/// Larger frames are refused by the server, which has not offered more (RFC 9113 §4.2); they pass as they are.
const FRAME_LEN_MAX: usize = 16_384;
const HEADERS: u8 = 1;
const PADDED: u8 = 0x08;
const PRIORITY: u8 = 0x20;

/// The bytes of one connection on their way in.
#[derive(Debug)]
pub(crate) struct Mended {
    /// Bytes that pass without a look: of the preface, or of a frame without headers.
    pass: usize,
    /// The beginning of a frame that is not complete.
    frame: Vec<u8>,
    /// Ready for the server.
    pub(crate) ready: Vec<u8>,
}

impl Default for Mended {
    fn default() -> Self {
        Self { pass: PREFACE_LEN, frame: Vec::new(), ready: Vec::new() }
    }
}

impl Mended {
    /// Takes what came; what can go on lies in `ready` afterwards.
    pub(crate) fn take(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.pass > 0 {
                let (now, later) = bytes.split_at(self.pass.min(bytes.len()));
                self.ready.extend_from_slice(now);
                self.pass -= now.len();
                bytes = later;
                continue;
            }
            let wanted = match self.frame_len() {
                None => FRAME_HEADER_LEN,
                Some(len) => FRAME_HEADER_LEN + len,
            };
            let (now, later) = bytes.split_at((wanted - self.frame.len()).min(bytes.len()));
            self.frame.extend_from_slice(now);
            bytes = later;
            self.pass_on();
        }
    }

    /// Payload bytes of the frame at hand, once its header is here.
    fn frame_len(&self) -> Option<usize> {
        match self.frame.get(..3)? {
            [a, b, c] if self.frame.len() >= FRAME_HEADER_LEN => {
                Some(usize::from(*a) << 16 | usize::from(*b) << 8 | usize::from(*c))
            }
            _ => None,
        }
    }

    fn pass_on(&mut self) {
        let Some(len) = self.frame_len() else { return };
        if self.frame.get(3) != Some(&HEADERS) || len > FRAME_LEN_MAX {
            self.pass = len;
        } else if self.frame.len() < FRAME_HEADER_LEN + len {
            return;
        } else {
            let flags = self.frame.get(4).copied().unwrap_or_default();
            // A block that cannot be walked is left for the server to refuse.
            let _ = self.frame.get_mut(FRAME_HEADER_LEN..).and_then(|payload| mend(flags, payload));
        }
        self.ready.append(&mut self.frame);
    }
}

/// Walks the header block of one HEADERS frame (RFC 7541 §6); nothing where it ends too early.
fn mend(flags: u8, payload: &mut [u8]) -> Option<()> {
    let mut at = 0;
    let mut end = payload.len();
    if flags & PADDED != 0 {
        end = end.checked_sub(usize::from(*payload.first()?))?;
        at += 1;
    }
    if flags & PRIORITY != 0 {
        at += 5;
    }
    let block = payload.get_mut(at..end)?;
    let mut at = 0;
    while let Some(first) = block.get(at).copied() {
        let prefix = match first {
            0x80.. => 7,
            0x40..=0x7f => 6,
            0x20..=0x3f => 5,
            _ => 4,
        };
        let index = integer(block, &mut at, prefix)?;
        // Indexed fields and changes of the table's size have no text.
        if matches!(prefix, 7 | 5) {
            continue;
        }
        let named = match index {
            0 => {
                let (name, plain) = text(block, &mut at)?;
                plain && name == b":authority"
            }
            // RFC 7541 appendix A: the first entry of the static table.
            index => index == 1,
        };
        let (value, plain) = text(block, &mut at)?;
        if named && plain {
            value.iter_mut().filter(|byte| **byte == b'%').for_each(|byte| *byte = b'-');
        }
    }
    Some(())
}

/// RFC 7541 §5.2: a text and whether it stands there plainly.
fn text<'b>(block: &'b mut [u8], at: &mut usize) -> Option<(&'b mut [u8], bool)> {
    let plain = block.get(*at)? & 0x80 == 0;
    let len = integer(block, at, 7)?;
    let from = *at;
    *at = from.checked_add(len)?;
    Some((block.get_mut(from..*at)?, plain))
}

/// RFC 7541 §5.1. Three further bytes say more than any frame holds.
fn integer(block: &[u8], at: &mut usize, prefix: u32) -> Option<usize> {
    let most = (1_usize << prefix) - 1;
    let mut value = usize::from(*block.get(*at)?) & most;
    *at += 1;
    if value < most {
        return Some(value);
    }
    for shift in [0, 7, 14] {
        let byte = usize::from(*block.get(*at)?);
        *at += 1;
        value += (byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let len = u32::try_from(payload.len()).expect("short").to_be_bytes();
        [&len[1..], &[kind, flags, 0, 0, 0, 1], payload].concat()
    }

    /// `:path` indexed anew, `:authority` as C core sends it, an indexed field, then one that must stay.
    fn block() -> Vec<u8> {
        [b"\x44\x02/a".as_slice(), b"\x41\x0ftmp%2Ffake.sock", b"\x83", b"\x40\x01x\x03%2F"].concat()
    }

    #[test]
    fn only_the_authority_changes_however_the_bytes_are_cut() {
        let long = [b"\x41\x7f\x01".as_slice(), &[b'%'; 128]].concat();
        let came = [
            [b'P'; PREFACE_LEN].to_vec(),
            frame(4, 0, b"%%%"),
            frame(HEADERS, 4, &block()),
            frame(0, 1, b"%2F\x41\x01%"),
            frame(HEADERS, PADDED | PRIORITY, &[b"\x02\0\0\0\0\0".as_slice(), &block(), b"%%"].concat()),
            frame(HEADERS, 4, &long),
        ]
        .concat();
        let mut want = came.clone();
        let needle = b"tmp%2Ffake";
        for at in 0..want.len() - needle.len() {
            if want[at..].starts_with(needle) {
                want[at + 3] = b'-';
            }
        }
        let tail = want.len() - 128;
        want[tail..].fill(b'-');
        for step in [1, 2, 7, 64, came.len()] {
            let mut mended = Mended::default();
            came.chunks(step).for_each(|part| mended.take(part));
            assert_eq!(mended.ready, want, "in steps of {step}");
        }
    }

    #[test]
    fn what_cannot_be_walked_passes_as_it_is() {
        for payload in
            [&b"\x41"[..], b"\x41\xff", b"\x41\x7f\xff\xff\xff\xff\xff\xff", b"\x00\x7f", b"\xff\xff\xff\xff\xff\xff"]
        {
            let came =
                [[b'P'; PREFACE_LEN].to_vec(), frame(HEADERS, 0xff, payload), frame(HEADERS, 0, payload)].concat();
            let mut mended = Mended::default();
            mended.take(&came);
            assert_eq!(mended.ready, came);
        }
    }
}
