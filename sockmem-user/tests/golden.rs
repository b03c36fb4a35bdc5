//! Recordings of every version of the format are read to the same report for ever.

use std::fs::{self, File};
use std::path::PathBuf;

use sockmem::model::Model;
use sockmem::recording::{Ending, Reader, read_all};
use sockmem::sinks::{HostFacts, json};

#[test]
fn golden_recordings_are_reported() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut names: Vec<String> = fs::read_dir(&folder)
        .expect("the folder is in the tree")
        .map(|e| {
            e.expect("an entry")
                .file_name()
                .to_string_lossy()
                .into_owned()
        })
        .filter(|name| name.ends_with(".smt"))
        .collect();
    names.sort();
    assert!(names.iter().any(|n| n == "1.0-made.smt") && names.iter().any(|n| n == "1.0-real.smt"));
    for name in names {
        let file = File::open(folder.join(&name)).expect("it can be read");
        let mut reader = Reader::open(file).unwrap_or_else(|e| panic!("{name}: {e}"));
        let header = reader.header().clone();
        let mut model = Model::new(header.config());
        let summary = read_all(&mut reader, &mut model).expect("a file that can be read");
        assert!(
            matches!(summary.ending, Ending::Clean { .. }),
            "{name}: {:?}",
            summary.ending
        );
        let end = summary.end_mono_ns;
        let host = HostFacts {
            kernel: header.host.kernel.clone(),
            hostname: header.host.hostname.clone(),
            boot_id: header.host.boot_id.clone(),
            page_size: header.host.page_size,
            cpus: header.host.cpus.unwrap_or(0),
        };
        let mut report: serde_json::Value = serde_json::from_str(&json::report_line(
            &model.view(end, header.unix_ns(end)),
            &host,
        ))
        .expect("JSON");
        // The version of the tool that reports.
        report["tool_version"] = "any".into();
        insta::assert_json_snapshot!(name.as_str(), report);
        insta::assert_debug_snapshot!(format!("{name}-head"), (&header, summary.counts));
    }
}
