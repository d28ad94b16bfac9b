//! Style sheet, script and icon: compiled in, and named by their content, so that a browser may keep them for good.

use std::sync::LazyLock;

use axum::http::header;
use axum::response::{IntoResponse, Response};
use cauldron_identity::ids::sha256;

const CSS: &str = include_str!("static/page.css");
const JS: &str = include_str!("static/page.js");
const ICON: &str = include_str!("static/icon.svg");
/// A year (RFC 9111 names no longer one that caches honour).
const FOR_GOOD: &str = "public, max-age=31536000, immutable";
/// 64 bits: two versions of one file never share a name by accident.
const HASH_BYTES: usize = 8;

static NAMES: LazyLock<[String; 3]> =
    LazyLock::new(|| [Asset::Css, Asset::Js, Asset::Icon].map(|asset| asset.named(asset.content())));

/// A static file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asset {
    /// The style sheet.
    Css,
    /// The script.
    Js,
    /// The icon.
    Icon,
}

impl Asset {
    /// The file that an address names.
    #[must_use]
    pub fn at(path: &str) -> Option<Self> {
        [Self::Css, Self::Js, Self::Icon].into_iter().find(|asset| asset.path() == path)
    }

    /// Its address.
    #[must_use]
    pub fn path(self) -> &'static str {
        let [css, js, icon] = &*NAMES;
        match self {
            Self::Css => css,
            Self::Js => js,
            Self::Icon => icon,
        }
    }

    fn content(self) -> &'static str {
        match self {
            Self::Css => CSS,
            Self::Js => JS,
            Self::Icon => ICON,
        }
    }

    fn named(self, content: &str) -> String {
        let (stem, ending) = match self {
            Self::Css => ("page", "css"),
            Self::Js => ("page", "js"),
            Self::Icon => ("icon", "svg"),
        };
        let hash = sha256(content.as_bytes());
        format!("/static/{stem}.{}.{ending}", hex::encode(hash.get(..HASH_BYTES).unwrap_or(&hash)))
    }

    /// The file as an answer.
    #[must_use]
    pub fn respond(self) -> Response {
        let kind = match self {
            Self::Css => "text/css; charset=utf-8",
            Self::Js => "text/javascript; charset=utf-8",
            Self::Icon => "image/svg+xml",
        };
        ([(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, FOR_GOOD)], self.content()).into_response()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_found_by_its_content_alone() {
        for asset in [Asset::Css, Asset::Js, Asset::Icon] {
            assert_eq!(Asset::at(asset.path()), Some(asset));
        }
        assert_eq!(Asset::at("/static/page.0000000000000000.css"), None);
        assert_ne!(Asset::Css.named("a"), Asset::Css.named("b"));
    }

    /// What the policy of the page forbids must not be in the files: it would only fail in a browser.
    #[test]
    fn the_files_need_nothing_from_elsewhere_and_run_no_text() {
        for word in ["http:", "https:", "@import", "url(", "data:"] {
            assert!(!CSS.contains(word), "{word}");
        }
        for word in
            ["http:", "https:", "innerHTML", "eval(", "Function(", "document.write", ".style", "setAttribute('on"]
        {
            assert!(!JS.contains(word), "{word}");
        }
        assert!(!ICON.contains("script"));
    }
}
