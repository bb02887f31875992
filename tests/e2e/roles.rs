//! `serve` and `pipeline`, and what they refuse.

use crate::harness::{Home, tributary};

/// What only one process can open cannot be shared, and it is said before anything is made.
#[tokio::test(flavor = "multi_thread")]
async fn the_halves_refuse_embedded_backends() {
    let home = Home::new();
    for (flags, missing) in [
        (vec![], vec!["--kafka", "--scylla", "--lake"]),
        (vec!["--kafka", "127.0.0.1:1"], vec!["--scylla", "--lake"]),
        (vec!["--scylla", "127.0.0.1:1", "--lake", "/nowhere"], vec!["--kafka"]),
        (vec!["--kafka", "127.0.0.1:1", "--scylla", "127.0.0.1:1"], vec!["--lake"]),
    ] {
        for command in ["serve", "pipeline"] {
            let refused = tributary(home.path(), [&[command], &*flags].concat()).await;
            assert_eq!(refused.code, 2, "{refused:?}");
            let told: Vec<&str> =
                ["--kafka", "--scylla", "--lake"].into_iter().filter(|flag| refused.err.contains(flag)).collect();
            assert_eq!(told, missing, "{refused:?}");
        }
    }
    assert!(!home.path().join("data").exists(), "nothing was made");
}

/// Whoever asks a small binary for Kafka hears how to build a large one.
#[cfg(not(feature = "cluster"))]
#[tokio::test(flavor = "multi_thread")]
async fn a_binary_without_clients_says_how_to_build_one_with() {
    let home = Home::new();
    let ports = ["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"];
    let refused = tributary(home.path(), [&["up", "--kafka", "127.0.0.1:1"], &ports[..]].concat()).await;
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(refused.err.contains("--features cluster"), "{refused:?}");
}

/// The brokers are not there: that is said, with their address, and in bounded time.
#[cfg(feature = "cluster")]
#[tokio::test(flavor = "multi_thread")]
async fn brokers_that_are_not_there_are_named() {
    let home = Home::new();
    let ports = ["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"];
    let refused = tributary(home.path(), [&["up", "--kafka", "127.0.0.1:1"], &ports[..]].concat()).await;
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(refused.err.contains("127.0.0.1:1"), "{refused:?}");
}
