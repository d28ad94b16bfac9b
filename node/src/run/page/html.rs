//! HTML that is escaped by its types.
//!
//! Words of ours are `&'static str` ([`El::say`]); whatever was put together at run time is somebody's data and goes through
//! [`El::data`] or [`El::raw`], isolated in its direction and with every deceptive character spelled out. Elements, attributes and
//! link targets are enumerations: a script, a style, an event handler or a foreign address has no name here.

use std::fmt::Write as _;

use cauldron_identity::FactId;

use super::assets::Asset;
use crate::output::harmless;

/// A well-formed piece of a page.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Html(String);

/// An element under construction.
#[derive(Debug, Clone)]
pub struct El {
    tag: Tag,
    attributes: String,
    inner: Html,
}

macro_rules! names {
    ($(#[$doc:meta])* $kind:ident { $($name:ident = $text:literal),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[allow(missing_docs, reason = "each is what HTML calls it")]
        pub enum $kind { $($name),* }

        impl $kind {
            const fn name(self) -> &'static str {
                match self { $(Self::$name => $text),* }
            }
        }
    };
}

names! {
    /// Elements that a page may hold.
    Tag {
        A = "a", Article = "article", Bdi = "bdi", Button = "button", Code = "code", Dd = "dd", Details = "details", Div = "div",
        Dl = "dl", Dt = "dt", Footer = "footer", Form = "form", H1 = "h1", H2 = "h2", H3 = "h3",
        Header = "header", Input = "input", Label = "label", Li = "li", Main = "main", Nav = "nav",
        Noscript = "noscript", Ol = "ol", P = "p", Pre = "pre", Section = "section", Span = "span", Strong = "strong",
        Summary = "summary", Table = "table", Tbody = "tbody", Td = "td", Textarea = "textarea", Th = "th", Thead = "thead",
        Time = "time", Tr = "tr", Ul = "ul",
    }
}

names! {
    /// Attributes with a value. None of them runs anything or leads anywhere.
    Attr {
        AriaDescribedby = "aria-describedby", AriaLabel = "aria-label", AriaLabelledby = "aria-labelledby",
        AriaLive = "aria-live", AriaCurrent = "aria-current", Autocomplete = "autocomplete", Class = "class", Datetime = "datetime",
        Digest = "data-digest", For = "for", Id = "id", Kind = "type", Lines = "data-lines", Maxlength = "maxlength", Name = "name",
        Next = "data-next", Now = "data-now", Person = "data-person", Proposal = "data-proposal", Role = "role", Rows = "rows", Scope = "scope",
        State = "data-state", Tabindex = "tabindex", Until = "data-until", Choice = "data-choice", Csrf = "data-csrf",
        Ceremony = "data-ceremony", Version = "data-version", Spellcheck = "spellcheck",
    }
}

names! {
    /// Attributes without a value.
    Flag { Again = "data-again", Autofocus = "autofocus", Hidden = "hidden", Novalidate = "novalidate" }
}

/// Where a link may lead: this node's own pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Link {
    /// Signing in.
    Home,
    /// What waits.
    Approvals,
    /// One proposal.
    Proposal(FactId),
    /// The mesh.
    Status,
    /// Making a passkey.
    Enrol,
    /// What a page is about, below what all pages have.
    Main,
    /// Where a page asks for a decision.
    Decide,
}

impl Link {
    /// As it stands in an address.
    #[must_use]
    pub fn path(self) -> String {
        match self {
            Self::Home => "/".into(),
            Self::Approvals => "/approvals".into(),
            Self::Proposal(id) => format!("/approvals/{id}"),
            Self::Status => "/status".into(),
            Self::Enrol => "/enrol".into(),
            Self::Main => "#main".into(),
            Self::Decide => "#decide".into(),
        }
    }

    /// Reads where somebody wanted to go before they signed in; anything that is no page of ours is nothing.
    #[must_use]
    pub fn parse(path: &str) -> Option<Self> {
        match path {
            "/approvals" => Some(Self::Approvals),
            "/status" => Some(Self::Status),
            "/enrol" => Some(Self::Enrol),
            _ => path.strip_prefix("/approvals/")?.parse().ok().map(Self::Proposal),
        }
    }
}

/// Begins an element.
#[must_use]
pub fn el(tag: Tag) -> El {
    El { tag, attributes: String::new(), inner: Html::default() }
}

impl El {
    /// An attribute with a value, whoever wrote it.
    #[must_use]
    pub fn attr(mut self, name: Attr, value: impl AsRef<str>) -> Self {
        // Writing to a String cannot fail.
        let _ = write!(self.attributes, " {}=\"{}\"", name.name(), escaped(value.as_ref()));
        self
    }

    /// An attribute without a value.
    #[must_use]
    pub fn flag(mut self, name: Flag) -> Self {
        self.attributes.push(' ');
        self.attributes.push_str(name.name());
        self
    }

    /// Leads to a page of ours.
    #[must_use]
    pub fn href(mut self, link: Link) -> Self {
        let _ = write!(self.attributes, " href=\"{}\"", escaped(&link.path()));
        self
    }

    /// Classes, for the style sheet.
    #[must_use]
    pub fn class(self, class: &'static str) -> Self {
        self.attr(Attr::Class, class)
    }

    /// Our own words.
    #[must_use]
    pub fn say(mut self, text: &'static str) -> Self {
        self.inner.0.push_str(&escaped(text));
        self
    }

    /// Somebody's words within ours: what they do to the direction of text ends with them.
    #[must_use]
    pub fn data(self, text: impl AsRef<str>) -> Self {
        let text = harmless(text.as_ref());
        self.with(El { tag: Tag::Bdi, attributes: String::new(), inner: Html(escaped(&text)) })
    }

    /// Somebody's bytes, in type of equal width.
    #[must_use]
    pub fn raw(self, text: impl AsRef<str>) -> Self {
        let text = harmless(text.as_ref());
        let code = El { tag: Tag::Code, attributes: " dir=\"auto\"".into(), inner: Html(escaped(&text)) };
        self.with(code)
    }

    /// Something inside.
    #[must_use]
    pub fn with(mut self, inner: impl Into<Html>) -> Self {
        self.inner.0.push_str(&inner.into().0);
        self
    }

    /// Several things inside, in this order.
    #[must_use]
    pub fn all<T: Into<Html>>(self, inner: impl IntoIterator<Item = T>) -> Self {
        inner.into_iter().fold(self, El::with)
    }

    /// Something inside, where it is there.
    #[must_use]
    pub fn maybe(self, inner: Option<impl Into<Html>>) -> Self {
        self.all(inner)
    }
}

impl From<El> for Html {
    fn from(el: El) -> Self {
        let (name, attributes, inner) = (el.tag.name(), el.attributes, el.inner.0);
        match el.tag {
            // HTML, "void elements": no content and no end.
            Tag::Input => Self(format!("<{name}{attributes}>")),
            _ => Self(format!("<{name}{attributes}>{inner}</{name}>")),
        }
    }
}

impl Html {
    /// A whole document with one style sheet and one script, both ours.
    #[must_use]
    pub fn document(title: &'static str, body: El) -> String {
        let (css, js, icon) = (Asset::Css.path(), Asset::Js.path(), Asset::Icon.path());
        format!(
            "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{} · Cauldron</title>\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"><meta name=\"color-scheme\" content=\"light dark\">\
             <link rel=\"icon\" href=\"{icon}\" type=\"image/svg+xml\"><link rel=\"stylesheet\" href=\"{css}\">\
             <script src=\"{js}\" defer></script></head><body{}>{}</body></html>\n",
            escaped(title),
            body.attributes,
            body.inner.0,
        )
    }

    /// The text of it.
    #[cfg(test)]
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Safe in text and between double quotes (HTML, "Escaping a string"; `'` and `>` besides). Control characters, which neither may
/// hold, become what stands for what cannot be shown.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + text.len() / 8);
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\n' | '\t' => out.push(c),
            c if c.is_control() => out.push(char::REPLACEMENT_CHARACTER),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What strangers write: markup, quotes, entities, other directions, characters that are not seen.
    const HOSTILE: [(&str, &str); 9] = [
        ("<script>alert(1)</script>", "&lt;script&gt;alert(1)&lt;/script&gt;"),
        ("\" onclick=\"x", "&quot; onclick=&quot;x"),
        ("' autofocus onfocus='x", "&#39; autofocus onfocus=&#39;x"),
        ("a & b &lt; c", "a &amp; b &amp;lt; c"),
        ("</bdi></code></textarea>", "&lt;/bdi&gt;&lt;/code&gt;&lt;/textarea&gt;"),
        ("<!--", "&lt;!--"),
        ("abc\u{202e}gpj.exe", "abc\\u{202e}gpj.exe"),
        ("zero\u{200b}width", "zero\\u{200b}width"),
        ("bell\u{7}nul\0cr\r", "bell\\u{7}nul\\u{0}cr\\u{d}"),
    ];

    #[test]
    fn a_strangers_words_stay_words_wherever_they_stand() {
        for (text, shown) in HOSTILE {
            let data: Html = el(Tag::P).data(text).into();
            assert_eq!(data.as_str(), format!("<p><bdi>{shown}</bdi></p>"));
            let raw: Html = el(Tag::P).raw(text).into();
            assert_eq!(raw.as_str(), format!("<p><code dir=\"auto\">{shown}</code></p>"));
            for attr in [Attr::Class, Attr::Lines, Attr::AriaLabel, Attr::Proposal, Attr::Datetime] {
                let Html(html) = el(Tag::Div).attr(attr, text).into();
                assert_eq!(html.matches(['<', '>']).count(), 4, "{html}");
                assert_eq!(html.matches('"').count(), 2, "{html}");
                assert!(!html.contains('\'') && !html.contains('\0'), "{html}");
            }
        }
    }

    #[test]
    fn what_is_put_together_is_well_formed_and_in_order() {
        let list = el(Tag::Ul).all(["a", "b"].map(|item| el(Tag::Li).data(item)));
        let Html(html) = el(Tag::Section).class("x").say("1 < 2").with(list).maybe(None::<Html>).into();
        assert_eq!(html, "<section class=\"x\">1 &lt; 2<ul><li><bdi>a</bdi></li><li><bdi>b</bdi></li></ul></section>");
        let Html(html) = el(Tag::Input).attr(Attr::Kind, "text").flag(Flag::Autofocus).into();
        assert_eq!(html, "<input type=\"text\" autofocus>");
    }

    #[test]
    fn a_link_leads_to_our_own_pages_alone() {
        let id = FactId::from_bytes([0xab; 32]);
        for link in [Link::Approvals, Link::Status, Link::Enrol, Link::Proposal(id)] {
            assert_eq!(Link::parse(&link.path()), Some(link));
        }
        for path in
            ["//evil.example", "https://evil.example", "/approvals/../x", "/approvals/ab", "\\evil", "", "/\t/x"]
        {
            assert_eq!(Link::parse(path), None, "{path}");
        }
    }

    #[test]
    fn a_document_has_no_script_and_no_style_but_ours() {
        let html = Html::document("What waits", el(Tag::Div).data("<script>"));
        assert_eq!(html.matches("<script").count(), 1);
        assert!(!html.contains("<style") && !html.contains("style=") && !html.contains("http"), "{html}");
    }
}
