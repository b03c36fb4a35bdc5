//! Recordings of every version of the format, kept for ever under `tests/golden`: what they hold is
//! known here. `sockmem-user/tests/golden.rs` reports them.

use std::path::PathBuf;

use super::stories::plausible;
use super::*;

fn golden(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(name)
}

#[test]
fn the_first_version_is_read_as_it_was_meant() {
    let bytes = std::fs::read(golden("1.0-made.smt")).expect("it is kept for ever");
    let (story, ending) = read(&bytes);
    assert_eq!(story, expected(&plausible(3_000)));
    assert!(matches!(ending, Ending::Clean { end_mono_ns, .. } if end_mono_ns == 1 << 50));
}

#[test]
#[ignore = "makes the golden recording of a new version of the format: give it another name first"]
fn make() {
    let path = golden(&format!("{}.{}-made.smt", VERSION.0, VERSION.1));
    assert!(!path.exists(), "{} is kept for ever", path.display());
    std::fs::write(path, written(&plausible(3_000), 1_000)).expect("it can be written");
}
