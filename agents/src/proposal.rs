//! What an agent hands out: a draft of a proposal. The node adds what only it knows (its site, its name, the resource's
//! version, the lineage), seals it and lets the guardrails judge it.

use cauldron_identity::Digest;
use serde::{Deserialize, Serialize};

use crate::host::AgentInfo;

/// Text from outside: it may describe, it may never instruct.
pub const TAINT_UNTRUSTED_LOG: &str = "untrusted:log";

/// A proposed action with its reasons. Plain data; times are Unix seconds of *event* time, shares are parts per million.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProposalDraft {
    /// Who proposes.
    pub agent: AgentInfo,
    /// The slice, e.g. `security`.
    pub module: String,
    /// `<module>.<object>.<verb>`, e.g. `security.address.block`.
    pub operation: String,
    /// `R0` … `R3`, as the agent declares it; policy may say more.
    pub risk_class: String,
    /// Connector that the resource belongs to, e.g. `blocklist`.
    pub connector: String,
    /// What is acted on inside that connector, e.g. the canonical address.
    pub object: String,
    /// Typed arguments of the operation.
    pub args: serde_json::Value,
    /// Whether and how the effect can be taken back.
    pub undo: Undo,
    /// One sentence for the person who decides.
    pub rationale: String,
    /// The agent's own raw score; the agent's docs say how it is computed.
    pub confidence_ppm: u32,
    /// Name of the score's formula, so that a later change is not compared with it.
    pub confidence_method: String,
    /// What was seen, at most [`Evidence::LINES_MAX`].
    pub evidence: Vec<Evidence>,
    /// Labels of every input that shaped this draft.
    pub taint: Vec<String>,
    /// Two drafts with one key want the same thing: at most one of them may be carried out.
    pub intent_key: String,
    /// First event that counts.
    pub window_start_s: i64,
    /// Last event that counts.
    pub window_end_s: i64,
}

/// How an effect is taken back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Undo {
    /// Whether the effect can be undone without loss.
    pub reversible: bool,
    /// What a person or the node does to undo it.
    pub plan: String,
}

/// One line that was seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    /// Line number in the source, from 1.
    pub line_no: u64,
    /// When the line says it happened, Unix seconds.
    pub event_s: i64,
    /// Failures the line stands for (`message repeated N times`).
    pub count: u32,
    /// SHA-256 of the line's raw bytes without its terminator.
    pub digest: Digest,
    /// The line for human eyes: see [`for_display`].
    pub text: String,
}

impl Evidence {
    /// Lines kept per draft: enough to judge, small enough to replicate.
    pub const LINES_MAX: usize = 32;
    /// Bytes of [`Evidence::text`].
    pub const TEXT_BYTES_MAX: usize = 512;
}

/// Bytes of a stranger as text that is safe to show: invalid UTF-8 replaced, control and invisible formatting characters
/// escaped (a terminal must not obey them, a reader must not be misled by them), and cut at `bytes_max` with a `…`.
pub fn for_display(bytes: &[u8], bytes_max: usize) -> String {
    const CUT: char = '…';
    // No escape makes text shorter, so bytes beyond the limit can only matter by being there.
    let window = bytes.get(..bytes_max.saturating_add(4)).unwrap_or(bytes);
    let mut text = String::new();
    let mut fits = 0;
    for c in String::from_utf8_lossy(window).chars() {
        if is_deceptive(c) {
            text.extend(c.escape_unicode());
        } else if c == '\\' {
            text.push_str("\\\\");
        } else {
            text.push(c);
        }
        if text.len() > bytes_max {
            text.truncate(fits);
            text.push(CUT);
            return text;
        }
        if text.len() + CUT.len_utf8() <= bytes_max {
            fits = text.len();
        }
    }
    text
}

/// Control characters (Unicode Cc), line separators, and the format characters behind "Trojan Source" (CVE-2021-42574).
fn is_deceptive(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}')
        || matches!(c, '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn display_text_is_harmless() {
        let cases: [(&[u8], &str); 5] = [
            (b"plain text", "plain text"),
            (b"esc \x1b[2J bell \x07 tab \t", "esc \\u{1b}[2J bell \\u{7} tab \\u{9}"),
            (b"bad \xff\xfe utf8", "bad \u{fffd}\u{fffd} utf8"),
            ("rtl \u{202e}txt".as_bytes(), "rtl \\u{202e}txt"),
            (b"back\\slash", "back\\\\slash"),
        ];
        for (raw, shown) in cases {
            assert_eq!(for_display(raw, 512), shown);
        }
        assert_eq!(for_display(b"0123456789", 8), "01234…");
        assert_eq!(for_display(b"01234567", 8), "01234567");
    }

    proptest! {
        #[test]
        fn display_text_is_bounded_and_has_no_controls(raw in proptest::collection::vec(any::<u8>(), 0..900), max in 3usize..600) {
            let text = for_display(&raw, max);
            prop_assert!(text.len() <= max);
            prop_assert!(!text.chars().any(is_deceptive));
        }
    }
}
