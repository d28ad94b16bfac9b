//! `cargo xtask proto`: writes the generated code, or with `--check` compares it with what is there.

use std::path::Path;
use std::process::ExitCode;

type Error = Box<dyn std::error::Error>;

const PROTO: &str = "workloadapi.proto";
/// One file per protobuf package; the Workload API has none, which prost calls `_`.
const WRITTEN: &str = "_.rs";
const KEPT: &str = "workloadapi.rs";

fn main() -> Result<ExitCode, Error> {
    let check = std::env::args().any(|argument| argument == "--check");
    let base = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let kept = base.join("src/generated").join(KEPT);
    let generated = generate(&base.join("proto"))?;
    if !check {
        std::fs::write(&kept, generated)?;
        return Ok(ExitCode::SUCCESS);
    }
    if std::fs::read_to_string(&kept)? == generated {
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!("src/generated/{KEPT} is not what proto/{PROTO} gives: run `cargo xtask proto`");
    Ok(ExitCode::FAILURE)
}

fn generate(proto: &Path) -> Result<String, Error> {
    let descriptors = protox::compile([PROTO], [proto])?;
    let out = std::env::temp_dir().join(format!("cauldron-workload-api-{}", std::process::id()));
    std::fs::create_dir_all(&out)?;
    let builder =
        tonic_prost_build::configure().build_transport(false).btree_map(".").skip_debug(["X509SVID"]).out_dir(&out);
    let built = builder.compile_fds(descriptors);
    let text = built.map_err(Error::from).and_then(|()| Ok(std::fs::read_to_string(out.join(WRITTEN))?));
    std::fs::remove_dir_all(&out)?;
    Ok(text?)
}
