//! Logs to stderr always; traces and logs to an OpenTelemetry collector when `telemetry.otlp` is set.
//!
//! Levels are a contract: `error` = someone must act, `warn` = degraded, `info` = a state change an operator would want.

use std::time::Duration;

use opentelemetry::logs::{AnyValue, LogRecord, Logger, LoggerProvider, Severity};
use opentelemetry::trace::TracerProvider;
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_otlp::{ExporterBuildError, LogExporter, SpanExporter, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::logs::{SdkLogger, SdkLoggerProvider};
use opentelemetry_sdk::trace::SdkTracerProvider;
use tokio::runtime::Runtime;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry};

use crate::error::CliError;
use crate::trace::Traceparent;

/// What `RUST_LOG` and the configuration leave unset.
pub const FILTER_DEFAULT: &str = "info";
/// Libraries whose `info` is nothing an operator wants; a directive of one's own for the same target wins.
const QUIET: &str = "h2=warn,hyper=warn,libp2p=warn,netlink_proto=error,opentelemetry=warn,quinn=warn,tonic=warn";
/// What a collector that is gone may cost at the end of the process.
const FLUSH_MAX: Duration = Duration::from_secs(3);

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

/// What the process tells about itself, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// OTLP/gRPC endpoint such as `http://127.0.0.1:4317`.
    pub otlp: Option<String>,
    /// Filter directives of `tracing-subscriber`; `RUST_LOG` wins.
    pub filter: String,
    /// How lines on stderr look.
    pub format: LogFormat,
}

/// Keeps the exporters alive. [`Telemetry::shutdown`] sends what they still hold.
#[derive(Debug, Default)]
#[must_use = "dropping it stops the exporters"]
pub struct Telemetry {
    traces: Option<SdkTracerProvider>,
    logs: Option<SdkLoggerProvider>,
    /// The exporters' own: a busy node does not hold them up, and they still send when the node's runtime is gone.
    runtime: Option<Runtime>,
}

/// Installs the process-wide subscriber for the node `spiffe_id`. Call it once.
///
/// # Errors
/// [`CliError`] when a filter directive or the endpoint makes no sense, or a subscriber is installed already.
pub fn install(settings: &Settings, spiffe_id: &str) -> Result<Telemetry, CliError> {
    let filter = match std::env::var("RUST_LOG") {
        Ok(text) if !text.is_empty() => filter(&text, "RUST_LOG")?,
        _ => filter(&settings.filter, "telemetry.log")?,
    };
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(false).with_target(true);
    let lines: Box<dyn Layer<Registry> + Send + Sync> = match settings.format {
        LogFormat::Text => lines.boxed(),
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
    };
    let telemetry = match &settings.otlp {
        None => Telemetry::default(),
        Some(endpoint) => {
            let refused = || CliError::config(format!("cannot send telemetry to {endpoint}"));
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(1)
                .thread_name("telemetry")
                .enable_all()
                .build()
                .map_err(|e| refused().because(&e))?;
            connect(endpoint, spiffe_id, runtime).map_err(|e| refused().because(&e))?
        }
    };
    let scope = || InstrumentationScope::builder("cauldron").with_version(env!("CARGO_PKG_VERSION")).build();
    let traces =
        telemetry.traces.as_ref().map(|p| tracing_opentelemetry::layer().with_tracer(p.tracer_with_scope(scope())));
    let logs = telemetry.logs.as_ref().map(|p| OtlpLogs { logger: p.logger_with_scope(scope()) });
    // How much an operator reads is one thing, whether traces are whole another.
    let whole = self::filter(FILTER_DEFAULT, "telemetry.otlp")?;
    Registry::default()
        .with(lines.and_then(logs).with_filter(filter).and_then(traces.with_filter(whole)))
        .try_init()
        .map_err(|e| CliError::config("cannot install logging").because(&e))?;
    Ok(telemetry)
}

/// The W3C `traceparent` of the present span, or of a new trace: what a fact that starts something carries.
#[must_use]
pub fn traceparent() -> String {
    Traceparent::current_or_new().to_string()
}

/// Whether `text` is a filter that `telemetry.log` may hold.
///
/// # Errors
/// [`CliError`] that quotes it.
pub fn filter(text: &str, place: &str) -> Result<EnvFilter, CliError> {
    EnvFilter::try_new(format!("{QUIET},{text}")).map_err(|e| {
        CliError::config(format!("{place} = {text:?} is no log filter"))
            .because(&e)
            .hint("write a level such as `info`, or directives such as `warn,cauldron_node=debug`")
    })
}

impl Telemetry {
    /// Sends what the exporters still hold; waits at most three seconds for a collector that does not answer.
    pub fn shutdown(mut self) {
        let traces = self.traces.take().map(|p| p.shutdown_with_timeout(FLUSH_MAX));
        let logs = self.logs.take().map(|p| p.shutdown_with_timeout(FLUSH_MAX));
        for result in [traces, logs].into_iter().flatten() {
            if let Err(error) = result {
                tracing::warn!(%error, "the last telemetry did not reach the collector");
            }
        }
    }
}

impl Drop for Telemetry {
    fn drop(&mut self) {
        // Never waits: dropping a runtime inside another one would panic.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

fn connect(endpoint: &str, spiffe_id: &str, runtime: Runtime) -> Result<Telemetry, ExporterBuildError> {
    let inside = runtime.enter();
    let resource = Resource::builder()
        .with_service_name("cauldron")
        .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
        .with_attribute(KeyValue::new("service.instance.id", spiffe_id.to_owned()))
        .build();
    let spans = SpanExporter::builder().with_tonic().with_endpoint(endpoint).build()?;
    let records = LogExporter::builder().with_tonic().with_endpoint(endpoint).build()?;
    let traces = SdkTracerProvider::builder().with_resource(resource.clone()).with_batch_exporter(spans).build();
    let logs = SdkLoggerProvider::builder().with_resource(resource).with_batch_exporter(records).build();
    drop(inside);
    Ok(Telemetry { traces: Some(traces), logs: Some(logs), runtime: Some(runtime) })
}

/// Hands every event to OpenTelemetry as a log record of the span it happened in.
struct OtlpLogs {
    logger: SdkLogger,
}

impl<S: Subscriber> Layer<S> for OtlpLogs {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let metadata = event.metadata();
        // The exporter's own events would feed themselves.
        if ["opentelemetry", "h2", "tonic", "hyper", "tower"].iter().any(|own| metadata.target().starts_with(own)) {
            return;
        }
        let mut record = self.logger.create_log_record();
        let (severity, text) = severity(*metadata.level());
        record.set_severity_number(severity);
        record.set_severity_text(text);
        record.set_target(metadata.target());
        record.set_timestamp(std::time::SystemTime::now());
        if let Some(parent) = Traceparent::current() {
            parent.stamp(&mut record);
        }
        event.record(&mut Fields { record: &mut record });
        self.logger.emit(record);
    }
}

fn severity(level: Level) -> (Severity, &'static str) {
    match level {
        Level::ERROR => (Severity::Error, "ERROR"),
        Level::WARN => (Severity::Warn, "WARN"),
        Level::INFO => (Severity::Info, "INFO"),
        Level::DEBUG => (Severity::Debug, "DEBUG"),
        Level::TRACE => (Severity::Trace, "TRACE"),
    }
}

struct Fields<'a, R> {
    record: &'a mut R,
}

impl<R: LogRecord> Fields<'_, R> {
    fn put(&mut self, field: &Field, value: AnyValue) {
        match field.name() {
            "message" => self.record.set_body(value),
            name => self.record.add_attribute(name, value),
        }
    }
}

impl<R: LogRecord> Visit for Fields<'_, R> {
    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, AnyValue::Int(value));
    }
    fn record_u64(&mut self, field: &Field, value: u64) {
        // OTLP integers are signed (opentelemetry-proto, common.proto, AnyValue).
        self.put(field, i64::try_from(value).map_or_else(|_| AnyValue::from(value.to_string()), AnyValue::Int));
    }
    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, AnyValue::Boolean(value));
    }
    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, AnyValue::from(value.to_owned()));
    }
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.put(field, AnyValue::from(format!("{value:?}")));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use opentelemetry_sdk::logs::in_memory_exporter::InMemoryLogExporter;
    use opentelemetry_sdk::trace::InMemorySpanExporter;

    #[test]
    fn a_filter_that_makes_no_sense_is_quoted() {
        assert!(filter(FILTER_DEFAULT, "telemetry.log").is_ok());
        let own = filter("warn,quinn=debug", "telemetry.log").expect("valid").to_string();
        assert!(own.contains("quinn=debug") && !own.contains("quinn=warn") && own.contains("h2=warn"), "{own}");
        let error = filter("cauldron=loud", "telemetry.log").expect_err("no level");
        assert!(error.to_string().contains("telemetry.log = \"cauldron=loud\""), "{error}");
    }

    /// What the node does: no runtime around it, records to a collector that only has to answer the door.
    #[test]
    fn telemetry_reaches_a_collectors_door_from_outside_any_runtime() {
        let collector = std::net::TcpListener::bind("127.0.0.1:0").expect("bound");
        let endpoint = format!("http://{}", collector.local_addr().expect("an address"));
        let door = std::thread::spawn(move || {
            use std::io::Read;
            let (mut stream, _) = collector.accept().expect("a caller");
            let mut preface = [0; 24];
            stream.read_exact(&mut preface).expect("a preface");
            preface
        });
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let telemetry =
            connect(&endpoint, "spiffe://acme.test/coordinator/hq", runtime.expect("a runtime")).expect("connects");
        let logger = telemetry.logs.as_ref().expect("logs").logger("test");
        let subscriber = Registry::default().with(OtlpLogs { logger });
        tracing::subscriber::with_default(subscriber, || tracing::error!("the disk is full"));
        telemetry.shutdown();
        // The connection preface of HTTP/2 (RFC 9113 §3.4), which gRPC speaks.
        assert_eq!(&door.join().expect("the collector"), b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    }

    #[test]
    fn events_become_records_of_the_trace_that_the_fact_carried() {
        let (spans, records) = (InMemorySpanExporter::default(), InMemoryLogExporter::default());
        let traces = SdkTracerProvider::builder().with_simple_exporter(spans.clone()).build();
        let logs = SdkLoggerProvider::builder().with_simple_exporter(records.clone()).build();
        let subscriber = Registry::default()
            .with(tracing_opentelemetry::layer().with_tracer(traces.tracer("test")))
            .with(OtlpLogs { logger: logs.logger("test") });
        let carried: Traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".parse().expect("valid");
        tracing::subscriber::with_default(subscriber, || {
            let span = tracing::info_span!("execute");
            carried.adopt(&span);
            span.in_scope(|| tracing::warn!(attempt = 2u64, "the effect is late"));
        });

        let finished = spans.get_finished_spans().expect("spans");
        let [span] = &finished[..] else { panic!("one span, found {}", finished.len()) };
        assert_eq!(span.span_context.trace_id().to_string(), carried.trace_id());
        let emitted = records.get_emitted_logs().expect("records");
        let [record] = &emitted[..] else { panic!("one record, found {}", emitted.len()) };
        assert_eq!(record.record.body(), Some(&AnyValue::from("the effect is late")));
        assert_eq!(record.record.severity_number(), Some(Severity::Warn));
        let context = record.record.trace_context().expect("a trace context");
        assert_eq!(context.trace_id.to_string(), carried.trace_id());
    }
}
