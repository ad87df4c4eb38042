//! Snapshots of members.

use std::{ptr, sync::Arc};

use peerage::{Member, Result, boundary::Face};

use crate::{
    arena::{Arena, peerage_member_list},
    call::{Out, argument, call, free, peerage_status, read},
    cluster::peerage_cluster,
    error::peerage_error,
    generated::record::peerage_member,
    text::{peerage_str, peerage_tags},
};

/// Members as they were when asked for, in the order of their ids. Freed with
/// `peerage_members_free`, in any order with everything else; may be read by any number of threads.
pub struct peerage_members {
    list: peerage_member_list,
    _arena: Arena,
}

impl peerage_members {
    fn new(members: &[Arc<Member>]) -> Self {
        let mut arena = Arena::default();
        Self { list: arena.members(members), _arena: arena }
    }
}

/// All members: ourselves, the live, and the dead until they are forgotten. Never waits; any
/// thread. Fails with Argument.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn peerage_cluster_members(
    cluster: *const peerage_cluster,
    members: *mut *mut peerage_members,
    error: *mut *mut peerage_error,
) -> peerage_status {
    // SAFETY: the header demands a living handle, and places for pointers, or NULL.
    unsafe {
        call(error, || {
            let out = Out::new(members, "members")?;
            out.give(peerage_members::new(&argument(cluster, "cluster")?.cluster.members()));
            Ok(())
        })
    }
}

/// This node as the others see it: exactly one member. Never waits; any thread. Fails with
/// Argument.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn peerage_cluster_local(
    cluster: *const peerage_cluster,
    members: *mut *mut peerage_members,
    error: *mut *mut peerage_error,
) -> peerage_status {
    // SAFETY: the header demands a living handle, and places for pointers, or NULL.
    unsafe {
        call(error, || {
            let out = Out::new(members, "members")?;
            out.give(peerage_members::new(&[argument(cluster, "cluster")?.cluster.local()]));
            Ok(())
        })
    }
}

/// What is known about one node: one member, or none if nothing is. Never waits; any thread.
/// Fails with Argument.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn peerage_cluster_get(
    cluster: *const peerage_cluster,
    id: peerage_str,
    members: *mut *mut peerage_members,
    error: *mut *mut peerage_error,
) -> peerage_status {
    // SAFETY: the header demands a living handle, text that is there, and places for pointers.
    unsafe {
        call(error, || {
            let out = Out::new(members, "members")?;
            let cluster = argument(cluster, "cluster")?;
            let id = Face::C.text("id", id.value())?;
            let found: Vec<_> = cluster.cluster.get(&id).into_iter().collect();
            out.give(peerage_members::new(&found));
            Ok(())
        })
    }
}

/// The alive members that announce all the given tags with exactly these values. Never waits; any
/// thread. Fails with Argument.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn peerage_cluster_members_with(
    cluster: *const peerage_cluster,
    tags: peerage_tags,
    members: *mut *mut peerage_members,
    error: *mut *mut peerage_error,
) -> peerage_status {
    // SAFETY: the header demands a living handle, tags that are there, and places for pointers.
    unsafe {
        call(error, || -> Result<()> {
            let out = Out::new(members, "members")?;
            let cluster = argument(cluster, "cluster")?;
            let tags = Face::C.tags("tags", tags.value())?;
            let tags: Vec<_> = tags.into_iter().collect();
            out.give(peerage_members::new(&cluster.cluster.members_with(&tags)));
            Ok(())
        })
    }
}

/// How many there are; 0 for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn peerage_members_count(members: *const peerage_members) -> usize {
    // SAFETY: the header demands a living handle or NULL.
    read(0, || unsafe { members.as_ref() }.map_or(0, |members| members.list.count))
}

/// One of them, counted from 0. It belongs to the snapshot; NULL past the last one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn peerage_members_at(
    members: *const peerage_members,
    index: usize,
) -> *const peerage_member {
    read(ptr::null(), || {
        // SAFETY: the header demands a living handle or NULL.
        match unsafe { members.as_ref() } {
            // SAFETY: the list has so many pointers, and the arena keeps them.
            Some(members) if index < members.list.count => unsafe {
                *members.list.items.add(index)
            },
            _ => ptr::null(),
        }
    })
}

/// Frees a snapshot and everything got from it; NULL is fine.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn peerage_members_free(members: *mut peerage_members) {
    // SAFETY: the header demands a snapshot that was not freed, or NULL.
    unsafe { free(members) };
}
