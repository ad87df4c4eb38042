//! Snapshots of links.

use std::ptr;

use peerage::LinkStats;

use crate::{
    arena::Arena,
    call::{Out, argument, call, free, peerage_status, read},
    cluster::peerage_cluster,
    error::peerage_error,
    generated::record::{self, peerage_link_stats},
};

/// The links that were up when asked for, in no order. Freed with `peerage_links_free`, in any order
/// with everything else; may be read by any number of threads.
pub struct peerage_links {
    flat: Vec<peerage_link_stats>,
    // What the structs point to.
    _arena: Arena,
    _links: Vec<LinkStats>,
}

impl peerage_links {
    fn new(links: Vec<LinkStats>) -> Self {
        let mut arena = Arena::default();
        // Ids are kept by their own pointers, which moving the vector does not move.
        let flat = links.iter().map(|link| record::link_stats(link, &mut arena)).collect();
        Self { flat, _arena: arena, _links: links }
    }
}

/// Each link that is up, with its health and what is under way on it; other languages have them in
/// their statistics. Never waits; any thread. Fails with Argument.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn peerage_cluster_links(
    cluster: *const peerage_cluster,
    links: *mut *mut peerage_links,
    error: *mut *mut peerage_error,
) -> peerage_status {
    // SAFETY: the header demands a living handle, and places for pointers, or NULL.
    unsafe {
        call(error, || {
            let out = Out::new(links, "links")?;
            out.give(peerage_links::new(argument(cluster, "cluster")?.cluster.stats().links));
            Ok(())
        })
    }
}

/// How many there are; 0 for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn peerage_links_count(links: *const peerage_links) -> usize {
    // SAFETY: the header demands a living handle or NULL.
    read(0, || unsafe { links.as_ref() }.map_or(0, |links| links.flat.len()))
}

/// One of them, counted from 0. It belongs to the snapshot; NULL past the last one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn peerage_links_at(
    links: *const peerage_links,
    index: usize,
) -> *const peerage_link_stats {
    read(ptr::null(), || {
        // SAFETY: the header demands a living handle or NULL.
        let links = unsafe { links.as_ref() };
        links.and_then(|links| links.flat.get(index)).map_or(ptr::null(), ptr::from_ref)
    })
}

/// Frees a snapshot and everything got from it; NULL is fine.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn peerage_links_free(links: *mut peerage_links) {
    // SAFETY: the header demands a snapshot that was not freed, or NULL.
    unsafe { free(links) };
}
