//! W3C Trace Context `traceparent` (<https://www.w3.org/TR/trace-context-1/#traceparent-header>): one proposal is one trace,
//! from the log line to the effect, carried from node to node by the facts themselves.

use std::fmt;
use std::str::FromStr;

use opentelemetry::trace::{SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, TraceState};
use tracing_opentelemetry::OpenTelemetrySpanExt;

use crate::chance;

/// Version 00: a trace, the span that caused the fact, and whether it is sampled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Traceparent {
    trace: [u8; 16],
    span: [u8; 8],
    flags: u8,
}

/// A text that is no `traceparent`.
#[derive(Debug, thiserror::Error, PartialEq, Eq, Clone, Copy)]
#[error("not a W3C traceparent of version 00")]
pub struct NoTraceparent;

impl Traceparent {
    /// A new, sampled trace.
    #[must_use]
    pub fn generate() -> Self {
        // All-zero ids are invalid by the standard; the chance is 2^-64, the check is free.
        let nonzero = |bytes: &[u8]| bytes.iter().any(|b| *b != 0);
        loop {
            let (trace, span) = (chance::bytes::<16>(), chance::bytes::<8>());
            if nonzero(&trace) && nonzero(&span) {
                return Self { trace, span, flags: 1 };
            }
        }
    }

    /// The present span's, when OpenTelemetry is on and knows it.
    #[must_use]
    pub fn current() -> Option<Self> {
        let context = tracing::Span::current().context();
        let span = context.span();
        let context = span.span_context();
        context.is_valid().then(|| Self {
            trace: context.trace_id().to_bytes(),
            span: context.span_id().to_bytes(),
            flags: context.trace_flags().to_u8(),
        })
    }

    /// The present span's, or a new trace: what a fact that starts something carries.
    #[must_use]
    pub fn current_or_new() -> Self {
        Self::current().unwrap_or_else(Self::generate)
    }

    /// Makes `span` a child of this one, so that what happens here joins the trace. Without OpenTelemetry nothing happens.
    pub fn adopt(&self, span: &tracing::Span) {
        let parent = SpanContext::new(
            TraceId::from_bytes(self.trace),
            SpanId::from_bytes(self.span),
            TraceFlags::new(self.flags),
            true,
            TraceState::NONE,
        );
        // Refused only when no OpenTelemetry layer is installed or the span is closed: nothing to join then.
        let _ = span.set_parent(opentelemetry::Context::new().with_remote_span_context(parent));
    }

    /// Puts a log record into this trace.
    pub(crate) fn stamp(&self, record: &mut impl opentelemetry::logs::LogRecord) {
        record.set_trace_context(
            TraceId::from_bytes(self.trace),
            SpanId::from_bytes(self.span),
            Some(TraceFlags::new(self.flags)),
        );
    }

    /// The trace id, 32 lower-case hex characters.
    #[must_use]
    pub fn trace_id(&self) -> String {
        hex::encode(self.trace)
    }
}

impl fmt::Display for Traceparent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{}-{}-{:02x}", hex::encode(self.trace), hex::encode(self.span), self.flags)
    }
}

impl FromStr for Traceparent {
    type Err = NoTraceparent;

    fn from_str(text: &str) -> Result<Self, NoTraceparent> {
        let mut parts = text.split('-');
        let mut next = || parts.next().filter(|p| !p.bytes().any(|b| b.is_ascii_uppercase())).ok_or(NoTraceparent);
        let (version, trace, span, flags) = (next()?, next()?, next()?, next()?);
        if version != "00" || parts.next().is_some() {
            return Err(NoTraceparent);
        }
        let mut out = Self { trace: [0; 16], span: [0; 8], flags: 0 };
        let mut byte = [0; 1];
        hex::decode_to_slice(trace, &mut out.trace).map_err(|_| NoTraceparent)?;
        hex::decode_to_slice(span, &mut out.span).map_err(|_| NoTraceparent)?;
        hex::decode_to_slice(flags, &mut byte).map_err(|_| NoTraceparent)?;
        out.flags = byte[0];
        if out.trace == [0; 16] || out.span == [0; 8] { Err(NoTraceparent) } else { Ok(out) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_standards_own_example_round_trips() {
        let text = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let parsed: Traceparent = text.parse().expect("valid");
        assert_eq!(parsed.to_string(), text);
        assert_eq!(parsed.trace_id(), "4bf92f3577b34da6a3ce929d0e0e4736");
    }

    #[test]
    fn what_the_standard_forbids_is_refused() {
        for text in [
            "",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-extra",
            "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4bf92f3577b34da6a3ce929d0e0e473-00f067aa0ba902b7-01",
        ] {
            assert_eq!(text.parse::<Traceparent>(), Err(NoTraceparent), "{text}");
        }
    }

    #[test]
    fn fresh_ids_differ_and_parse() {
        let (a, b) = (Traceparent::generate(), Traceparent::generate());
        assert_ne!(a, b);
        assert_eq!(a.to_string().parse(), Ok(a));
        assert_eq!(Traceparent::current(), None, "no OpenTelemetry layer is installed in this test");
    }
}
