//! What an OpenTelemetry collector receives from two nodes: one proposal, one trace.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cauldron_tests::{Mesh, Node, Plan, eventually, wait_until};
use opentelemetry_proto::tonic::collector::logs::v1::logs_service_server::{LogsService, LogsServiceServer};
use opentelemetry_proto::tonic::collector::logs::v1::{ExportLogsServiceRequest, ExportLogsServiceResponse};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{TraceService, TraceServiceServer};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::resource::v1::Resource;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

/// The exporters send what they have at least every five seconds.
const ARRIVES_MAX: Duration = Duration::from_secs(40);

/// A span as it arrived.
#[derive(Debug, Clone)]
struct Span {
    /// The SPIFFE ID of the node that sent it.
    node: String,
    name: String,
    trace: String,
    id: String,
    /// Empty at the root.
    parent: String,
}

/// A log record as it arrived.
#[derive(Debug, Clone)]
struct Record {
    node: String,
    body: String,
    trace: String,
}

#[derive(Debug, Default)]
struct Received {
    spans: Mutex<Vec<Span>>,
    records: Mutex<Vec<Record>>,
}

impl Received {
    fn trace(&self, id: &str) -> Vec<Span> {
        let spans = self.spans.lock().expect("nobody panicked");
        spans.iter().filter(|span| span.trace == id).cloned().collect()
    }

    fn records(&self, trace: &str) -> Vec<Record> {
        let records = self.records.lock().expect("nobody panicked");
        records.iter().filter(|record| record.trace == trace).cloned().collect()
    }
}

/// `service.instance.id` (OpenTelemetry semantic conventions, service).
fn instance(resource: Option<&Resource>) -> String {
    let mut all = resource.into_iter().flat_map(|r| &r.attributes);
    let found = all.find(|a| a.key == "service.instance.id").and_then(|a| a.value.as_ref()?.value.as_ref());
    let Some(Value::StringValue(id)) = found else { panic!("no instance in {resource:?}") };
    id.clone()
}

#[derive(Debug, Clone)]
struct Service(Arc<Received>);

#[tonic::async_trait]
impl TraceService for Service {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        for group in request.into_inner().resource_spans {
            let node = instance(group.resource.as_ref());
            let spans = group.scope_spans.into_iter().flat_map(|scope| scope.spans).map(|span| Span {
                node: node.clone(),
                name: span.name,
                trace: hex::encode(span.trace_id),
                id: hex::encode(span.span_id),
                parent: hex::encode(span.parent_span_id),
            });
            self.0.spans.lock().expect("nobody panicked").extend(spans);
        }
        Ok(Response::new(Default::default()))
    }
}

#[tonic::async_trait]
impl LogsService for Service {
    async fn export(
        &self,
        request: Request<ExportLogsServiceRequest>,
    ) -> Result<Response<ExportLogsServiceResponse>, Status> {
        for group in request.into_inner().resource_logs {
            let node = instance(group.resource.as_ref());
            let records = group.scope_logs.into_iter().flat_map(|scope| scope.log_records).map(|record| Record {
                node: node.clone(),
                body: match record.body.and_then(|body| body.value) {
                    Some(Value::StringValue(text)) => text,
                    other => format!("{other:?}"),
                },
                trace: hex::encode(record.trace_id),
            });
            self.0.records.lock().expect("nobody panicked").extend(records);
        }
        Ok(Response::new(Default::default()))
    }
}

/// A collector on a port of its own, until it is dropped.
struct Collector {
    endpoint: String,
    received: Arc<Received>,
    _runtime: tokio::runtime::Runtime,
}

impl Collector {
    fn start() -> Self {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        let runtime = builder.worker_threads(1).enable_all().build().expect("a runtime");
        let received = Arc::new(Received::default());
        let inside = runtime.enter();
        let incoming = TcpIncoming::bind(([127, 0, 0, 1], 0).into()).expect("a port");
        let endpoint = format!("http://{}", incoming.local_addr().expect("bound"));
        let server = Server::builder()
            .add_service(TraceServiceServer::new(Service(received.clone())))
            .add_service(LogsServiceServer::new(Service(received.clone())));
        runtime.spawn(server.serve_with_incoming(incoming));
        drop(inside);
        Self { endpoint, received, _runtime: runtime }
    }
}

/// Starts `node` again with a section `[telemetry]`.
fn restart_with(node: &mut Node, telemetry: &str) {
    let config = std::fs::read_to_string(node.config()).expect("readable");
    std::fs::write(node.config(), format!("{config}\n[telemetry]\n{telemetry}")).expect("written");
    node.restart();
}

/// The trace id in the proposal's `traceparent`, the same wherever the proposal is held.
fn trace_of(mesh: &Mesh, id: &str) -> String {
    let [here, there] =
        [&mesh.lyon, &mesh.hq].map(|node| node.get(&format!("/v1/proposals/{id}"))["traceparent"].clone());
    assert_eq!(here, there);
    here.as_str().and_then(|text| text.split('-').nth(1)).expect("a traceparent").to_owned()
}

#[test]
fn a_collector_sees_each_proposal_as_one_trace_of_both_nodes_with_a_root() {
    let collector = Collector::start();
    let mut mesh = Mesh::found_with(Plan { without_porto: true, ..Plan::default() });
    // What hq writes to stderr is not what it sends as spans.
    restart_with(&mut mesh.hq, &format!("otlp = {:?}\nlog = \"error\"\n", collector.endpoint));
    restart_with(&mut mesh.lyon, &format!("otlp = {:?}\n", collector.endpoint));
    mesh.until_up();

    mesh.log_lines(Mesh::attack("203.0.113.9"));
    eventually("hq asks a person", || mesh.hq.items("/v1/approvals").len() == 1);
    let found = mesh.hq.items("/v1/approvals")[0]["id"].as_str().expect("an id").to_owned();
    let typed = mesh.lyon.propose("203.0.113.10", 60).expect("recorded");
    let traces = [&found, &typed].map(|id| {
        mesh.hq.until_state(id, "PENDING_APPROVAL");
        mesh.approve(id).ok();
        mesh.lyon.until_state(id, "DONE");
        trace_of(&mesh, id)
    });
    assert_ne!(traces[0], traces[1], "each proposal is a trace of its own");

    let hq = format!("spiffe://{}/coordinator/hq", Mesh::TRUST_DOMAIN);
    let lyon = Mesh::site_id("lyon");
    for trace in &traces {
        let spans = || collector.received.trace(trace);
        let has = |node: &str, name: &str| spans().iter().any(|span| span.node == node && span.name == name);
        for (node, name) in [(&lyon, "propose"), (&hq, "permit"), (&lyon, "execute"), (&hq, "done")] {
            let what = format!("{name} of {node} is in the trace {trace}");
            wait_until(&what, ARRIVES_MAX, || if has(node, name) { Ok(()) } else { Err(format!("{:?}", spans())) });
        }
        let roots: Vec<Span> = spans().into_iter().filter(|span| span.parent.is_empty()).collect();
        assert_eq!(roots.len(), 1, "{roots:?}");
        assert_eq!((&roots[0].node, roots[0].name.as_str()), (&lyon, "propose"));
        let ids: BTreeSet<String> = spans().into_iter().map(|span| span.id).collect();
        let orphans: Vec<Span> =
            spans().into_iter().filter(|s| !s.parent.is_empty() && !ids.contains(&s.parent)).collect();
        assert!(orphans.is_empty(), "{orphans:?}");
    }
    eventually("the log record of the agent's proposal arrives in its trace", || {
        collector.received.records(&traces[0]).iter().any(|r| r.node == lyon && r.body == "proposed")
    });
}
