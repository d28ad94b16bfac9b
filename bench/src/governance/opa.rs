//! OPA on the same rules: its own benchmark, its server on loopback, and one process for each decision.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// The newest that the Go module proxy served when this was written.
pub(super) const VERSION: &str = "v1.22.4";
const PACKAGE: &str = "data.cauldron.guardrail";
const REQUESTS: usize = 4_000;
const PROCESSES: usize = 9;
const START_MAX: Duration = Duration::from_secs(20);

/// An OPA that can be run.
pub(super) struct Opa(PathBuf);

/// p50 of one decision, in microseconds.
pub(super) struct Measured {
    pub(super) bench_us: f64,
    pub(super) server_us: f64,
    pub(super) process_us: f64,
}

impl Opa {
    /// `CAULDRON_OPA`, else what `go install` puts into a folder for temporary files. None where Go cannot.
    pub(super) fn find() -> Result<Option<Self>, String> {
        if let Some(given) = std::env::var_os("CAULDRON_OPA") {
            return Ok(Some(Self(given.into())));
        }
        let folder = std::env::temp_dir().join(format!("cauldron-bench-opa-{VERSION}"));
        let program = folder.join("opa");
        if program.exists() {
            return Ok(Some(Self(program)));
        }
        let module = format!("github.com/open-policy-agent/opa@{VERSION}");
        let install = Command::new("go")
            .args(["install", &module])
            .env("GOBIN", &folder)
            .current_dir(std::env::temp_dir())
            .output();
        Ok(install.is_ok_and(|done| done.status.success()).then_some(Self(program)))
    }

    pub(super) fn measure(&self, rules: &Path, input: &Value) -> Result<Measured, String> {
        let folder = tempfile::tempdir().map_err(said)?;
        let file = folder.path().join("input.json");
        std::fs::write(&file, input.to_string()).map_err(said)?;
        Ok(Measured {
            bench_us: self.bench(rules, input)?,
            server_us: self.server(rules, input)?,
            process_us: self.process(rules, &file)?,
        })
    }

    /// What OPA's own benchmark says, p50 in microseconds.
    pub(super) fn bench(&self, rules: &Path, input: &Value) -> Result<f64, String> {
        let file = tempfile::NamedTempFile::with_suffix(".json").map_err(said)?;
        std::fs::write(file.path(), input.to_string()).map_err(said)?;
        let out = Command::new(&self.0)
            .args(["bench", "--format", "json", "--data"])
            .arg(rules)
            .arg("--input")
            .arg(file.path())
            .arg(PACKAGE)
            .output()
            .map_err(said)?;
        let report: Value = serde_json::from_slice(&out.stdout).map_err(said)?;
        let median = report["Extra"]["histogram_timer_rego_query_eval_ns_median"].as_f64();
        median.map(|ns| ns / 1e3).ok_or_else(|| "opa bench prints no median".to_owned())
    }

    fn process(&self, rules: &Path, input: &Path) -> Result<f64, String> {
        let mut times = Vec::new();
        for _ in 0..PROCESSES {
            let start = Instant::now();
            let mut command = Command::new(&self.0);
            command.args(["eval", "--data"]).arg(rules).arg("--input").arg(input).arg(PACKAGE);
            let done = command.stdout(Stdio::null()).status().map_err(said)?;
            if !done.success() {
                return Err("opa eval fails".to_owned());
            }
            times.push(start.elapsed().as_secs_f64() * 1e6);
        }
        Ok(median(times))
    }

    fn server(&self, rules: &Path, input: &Value) -> Result<f64, String> {
        let address = {
            let free = TcpListener::bind("127.0.0.1:0").map_err(said)?;
            free.local_addr().map_err(said)?
        };
        let mut command = Command::new(&self.0);
        command.args([
            "run",
            "--server",
            "--log-level",
            "error",
            "--disable-telemetry",
            "--addr",
            &address.to_string(),
        ]);
        let child = command.arg(rules).stdout(Stdio::null()).stderr(Stdio::null()).spawn().map_err(said)?;
        let _server = Running(child);
        let start = Instant::now();
        let stream = loop {
            match TcpStream::connect(address) {
                Ok(stream) => break stream,
                Err(e) if start.elapsed() > START_MAX => return Err(format!("OPA's server does not start: {e}")),
                Err(_) => std::thread::sleep(Duration::from_millis(50)),
            }
        };
        stream.set_nodelay(true).map_err(said)?;
        let body = json!({ "input": input }).to_string();
        let request = format!(
            "POST /v1/data/cauldron/guardrail HTTP/1.1\r\nHost: opa\r\nContent-Type: application/json\r\nContent-Length: \
             {}\r\n\r\n{body}",
            body.len()
        );
        let mut stream = BufReader::new(stream);
        let mut times = Vec::new();
        for _ in 0..REQUESTS {
            let start = Instant::now();
            stream.get_mut().write_all(request.as_bytes()).map_err(said)?;
            let answer = answer(&mut stream)?;
            times.push(start.elapsed().as_secs_f64() * 1e6);
            if !answer.contains("allow") {
                return Err(format!("OPA's server answers {answer}"));
            }
        }
        Ok(median(times))
    }
}

/// Ends the server with the measurement, whatever becomes of it.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn answer(stream: &mut BufReader<TcpStream>) -> Result<String, String> {
    let (mut len, mut line) = (0, String::new());
    loop {
        line.clear();
        stream.read_line(&mut line).map_err(said)?;
        let header = line.trim().to_ascii_lowercase();
        if let Some(value) = header.strip_prefix("content-length:") {
            len = value.trim().parse().map_err(said)?;
        }
        if header.is_empty() {
            break;
        }
    }
    let mut body = vec![0; len];
    stream.read_exact(&mut body).map_err(said)?;
    String::from_utf8(body).map_err(said)
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

fn said(error: impl std::fmt::Display) -> String {
    error.to_string()
}
