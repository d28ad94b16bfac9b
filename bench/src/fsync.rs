//! The yardstick for whatever must be durable: what this disk takes for the same number of syncs, alone.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::Instant;

/// A page of the store: the least that a commit writes.
const PAGE: [u8; 4096] = [7; 4096];

/// Milliseconds that `syncs` appends of a page with `fdatasync` take, one after the other, `runs` times over, in `folder`.
pub fn times_ms(folder: &Path, syncs: usize, runs: usize) -> Result<Vec<f64>, String> {
    let failed = |error: std::io::Error| format!("cannot write in {}: {error}", folder.display());
    let mut file = File::create(folder.join("fsync")).map_err(failed)?;
    let mut times = Vec::with_capacity(runs);
    for _ in 0..runs {
        let started = Instant::now();
        for _ in 0..syncs {
            file.write_all(&PAGE).and_then(|()| file.sync_data()).map_err(failed)?;
        }
        times.push(started.elapsed().as_secs_f64() * 1e3);
    }
    Ok(times)
}
