//! Fail points for the kill tests: in debug builds, `TRIBUTARY_CRASH_AT=name[:n]` kills the process with SIGKILL when
//! it passes the point `name` for the n-th time (default: the first). Release builds contain nothing of this.

/// Dies here when told to; see the module's documentation.
#[cfg(debug_assertions)]
pub fn point(name: &'static str) {
    use std::sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    };
    static WANTED: OnceLock<Option<(String, u64)>> = OnceLock::new();
    static PASSED: AtomicU64 = AtomicU64::new(0);
    let wanted = WANTED.get_or_init(|| {
        let text = std::env::var("TRIBUTARY_CRASH_AT").ok()?;
        let (point, nth) = text.split_once(':').unwrap_or((&text, "1"));
        Some((point.to_owned(), nth.parse().unwrap_or(1)))
    });
    let Some((point, nth)) = wanted else { return };
    if point == name && PASSED.fetch_add(1, Ordering::SeqCst) + 1 == *nth {
        kill_self();
    }
}

/// Release builds pass every point.
#[cfg(not(debug_assertions))]
#[inline]
pub fn point(_name: &'static str) {}

#[cfg(debug_assertions)]
fn kill_self() -> ! {
    // `kill -9` from outside, so that nothing unwinds, flushes or closes.
    let _ = std::process::Command::new("kill").args(["-9", &std::process::id().to_string()]).status();
    std::process::abort()
}
