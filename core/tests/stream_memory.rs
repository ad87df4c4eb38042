//! One GiB through one stream, in memory that does not grow with it. One test in this binary, since
//! it measures the memory of the whole process, both ends and all.
#![cfg(target_os = "linux")]
#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use std::{fs, time::Instant};

use bytes::{Buf, Bytes};
use peerage::{Secret, Stream};
use support::{PATIENCE, cluster_of};

const WHOLE: u64 = 1 << 30;
/// Written at once; windows and buffers are far below that, and slices of it are never copied.
const PIECE: usize = 4 << 20;
/// What the process may grow by, in KiB.
const GROWTH_MAX_KIB: u64 = 32 << 10;

fn rss_kib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

/// Reads to the end, sees that every eighth byte of a number is where it belongs, and answers with
/// how many bytes came.
async fn count(mut stream: Stream) -> Result<(), String> {
    let mut count = 0_u64;
    while let Some(mut bytes) = stream.read(None).await.map_err(|e| e.to_string())? {
        let skip = (count.next_multiple_of(8) - count) as usize;
        count += bytes.len() as u64;
        if bytes.len() >= skip + 8 {
            let at = count - bytes.len() as u64 + skip as u64;
            bytes.advance(skip);
            if bytes.get_u64() != at % PIECE as u64 {
                return Err(format!("the bytes at {at} are others"));
            }
        }
    }
    stream.write(count.to_string(), None).await.map_err(|e| e.to_string())?;
    stream.finish(None).await.map_err(|e| e.to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn one_gibibyte_through_one_stream_in_flat_memory() {
    let nodes = cluster_of(2, &Secret::generate()).await;
    nodes[1].handle_streams("count", count).unwrap();
    let piece: Bytes = (0..PIECE as u64 / 8).flat_map(|n| (n * 8).to_be_bytes()).collect();
    let mut stream = nodes[0].open_stream("n1", "count", PATIENCE).await.unwrap();
    // The buffers of the stack and the runtime are warm after the first pieces.
    for _ in 0..8 {
        stream.write(piece.clone(), PATIENCE).await.unwrap();
    }
    let (before, since, mut most) = (rss_kib(), Instant::now(), 0);
    while stream.sent() < WHOLE {
        stream.write(piece.clone(), PATIENCE).await.unwrap();
        most = most.max(rss_kib());
    }
    stream.finish(PATIENCE).await.unwrap();
    let took = since.elapsed();
    let mut answer = Vec::new();
    while let Some(bytes) = stream.read(PATIENCE).await.unwrap() {
        answer.extend_from_slice(&bytes);
    }
    assert_eq!(String::from_utf8(answer).unwrap(), WHOLE.to_string());
    let grown = most.saturating_sub(before);
    eprintln!("{took:?}, grown by {grown} KiB from {before} KiB");
    assert!(grown <= GROWTH_MAX_KIB, "grown by {grown} KiB");
}
