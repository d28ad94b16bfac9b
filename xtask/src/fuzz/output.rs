//! What libFuzzer says, read.

/// One run of one target.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Run {
    /// Whether it ended without a finding.
    pub ok: bool,
    /// The first words of the finding.
    pub what: String,
    /// Where the input of the finding lies.
    pub artifact: Option<String>,
    /// That input, where it is short.
    pub base64: Option<String>,
    executions: u64,
    per_second: u64,
    edges: u64,
    features: u64,
    corpus: u64,
    peak_mib: u64,
}

/// Lines that are shown of a target that ended without saying why.
const LAST_WORDS: usize = 12;

impl Run {
    /// Names of the columns of [`Run::line`].
    pub const HEADINGS: &str = "target       executions     /s    edges features   corpus   MiB  findings";

    /// Reads what the target wrote to its standard error.
    pub fn of(ok: bool, text: &str) -> Self {
        let mut run = Self { ok, ..Self::default() };
        for line in text.lines() {
            if let Some((_, rest)) = line.split_once(" cov: ") {
                run.edges = number(rest);
                run.features = after(rest, "ft: ").map_or(run.features, number);
                run.corpus = after(rest, "corp: ").map_or(run.corpus, number);
            } else if let Some((name, value)) = line.strip_prefix("stat::").and_then(|line| line.split_once(':')) {
                match name {
                    "number_of_executed_units" => run.executions = number(value),
                    "average_exec_per_sec" => run.per_second = number(value),
                    "peak_rss_mb" => run.peak_mib = number(value),
                    _ => {}
                }
            } else if let Some((_, file)) = line.split_once("Test unit written to ") {
                run.artifact = Some(file.trim().to_owned());
            } else if let Some(bytes) = line.strip_prefix("Base64: ") {
                run.base64 = Some(bytes.trim().to_owned());
            } else if run.what.is_empty() && (line.starts_with("FINDING: ") || line.contains("ERROR: libFuzzer: ")) {
                run.what = line.trim().to_owned();
            }
        }
        if !ok && run.what.is_empty() {
            let lines: Vec<&str> = text.lines().collect();
            let last = lines.get(lines.len().saturating_sub(LAST_WORDS)..).unwrap_or_default();
            run.what = format!("it ended, and its last words were\n{}", last.join("\n"));
        }
        run
    }

    /// One line of the table.
    pub fn line(&self, target: &str) -> String {
        let findings = u8::from(!self.ok);
        format!(
            "{target:<12} {:>10} {:>6} {:>8} {:>8} {:>8} {:>5}  {findings}",
            self.executions, self.per_second, self.edges, self.features, self.corpus, self.peak_mib
        )
    }
}

fn after<'t>(text: &'t str, name: &str) -> Option<&'t str> {
    text.split_once(name).map(|(_, rest)| rest)
}

fn number(text: &str) -> u64 {
    let digits: String = text.trim_start().chars().take_while(char::is_ascii_digit).collect();
    digits.parse().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::Run;

    #[test]
    fn a_quiet_run_is_read() {
        let text = "#2\tINITED cov: 10 ft: 11 corp: 1/1b exec/s: 0 rss: 30Mb\n\
                    #1048576\tpulse  cov: 812 ft: 1999 corp: 321/44Kb lim: 4096 exec/s: 131072 rss: 61Mb\n\
                    Done 1200345 runs in 9 second(s)\n\
                    stat::number_of_executed_units: 1200345\nstat::average_exec_per_sec:     133371\nstat::peak_rss_mb:              61\n";
        let run = Run::of(true, text);
        assert_eq!((run.edges, run.features, run.corpus), (812, 1999, 321));
        assert_eq!((run.executions, run.per_second, run.peak_mib), (1_200_345, 133_371, 61));
        assert_eq!((run.what.as_str(), run.artifact), ("", None));
    }

    #[test]
    fn a_finding_is_named_with_its_input() {
        let text = "FINDING: index out of bounds\n==1== ERROR: libFuzzer: deadly signal\n\
                    artifact_prefix='x/'; Test unit written to x/crash-1\nBase64: AAE=\n";
        let run = Run::of(false, text);
        assert_eq!(run.what, "FINDING: index out of bounds");
        assert_eq!((run.artifact.as_deref(), run.base64.as_deref()), (Some("x/crash-1"), Some("AAE=")));
    }
}
