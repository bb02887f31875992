//! What docs/SCALING.md says of the simulation, and whether docs/scaling.py says the rest.

use std::{path::Path, process::Command};

fn page() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/SCALING.md");
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Each figure has its row on the page.
pub(crate) fn assert_says(figures: &[(&str, String)]) {
    let page = page();
    let rows = figures.iter().map(|(name, value)| format!("| {name} | {value} |"));
    let missing: Vec<_> = rows.filter(|row| !page.contains(row)).collect();
    assert!(missing.is_empty(), "docs/SCALING.md should say:\n{}", missing.join("\n"));
}

/// The page's other figures are what the calculation prints.
#[test]
fn the_page_says_what_the_calculation_says() {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/scaling.py");
    let checked = Command::new("python3").arg(script).arg("--check").output().expect("python3, as for the other tests");
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
}
