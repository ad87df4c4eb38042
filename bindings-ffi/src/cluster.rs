//! A node: its start, its end and what it says about itself.

use std::{ptr, sync::Arc, time::Duration};

use peerage::{
    Cluster, Error, LeaveReport, Result,
    boundary::{Face, Value},
};

use crate::{
    arena::Arena,
    call::{Out, PEERAGE_DEFAULT, argument, call, free, null, peerage_status, read},
    cancel::{cancel_of, peerage_cancel, wait},
    config,
    error::peerage_error,
    generated::{
        config::peerage_config,
        record::{self, peerage_leave_report, peerage_stats},
    },
    responsive::Questions,
    text::{peerage_str, peerage_strs, peerage_tags},
};

/// A handle to a running node. Every function may be called on it from any number of threads at
/// once, except `peerage_cluster_free`, which must be the last.
pub struct peerage_cluster {
    pub(crate) cluster: Cluster,
    pub(crate) questions: Questions,
    addr: String,
    bound_addr: String,
}

/// What a deadline may be is the core's to say.
pub(crate) fn deadline(milliseconds: u64) -> Result<Option<Duration>> {
    match milliseconds {
        PEERAGE_DEFAULT => Ok(None),
        given => Face::C.deadline("deadline", Value::from(given)),
    }
}

/// Checks the configuration, binds the socket and starts the node, which begins to join its seeds
/// at once; `peerage_cluster_join` waits for that. Waits for the socket only. Fails with Config
/// (every wrong field is named), Bind, Argument; nothing is left behind then.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn peerage_cluster_start(
    config: *const peerage_config,
    cluster: *mut *mut peerage_cluster,
    error: *mut *mut peerage_error,
) -> peerage_status {
    // SAFETY: the header demands a whole configuration, and places for pointers, or NULL.
    unsafe {
        call(error, || {
            let out = Out::new(cluster, "cluster")?;
            let config = config::read(config)?;
            let cluster = wait(None, Cluster::start(config))?;
            let (addr, bound_addr) = (cluster.addr().to_string(), cluster.bound_addr().to_string());
            out.give(peerage_cluster {
                cluster,
                questions: Questions::default(),
                addr,
                bound_addr,
            });
            Ok(())
        })
    }
}

/// Waits until one of the configured seeds has admitted us; at once without seeds. Deadline in
/// milliseconds, 1 to 3,600,000; `PEERAGE_DEFAULT` takes `join_timeout`. Fails early when every
/// seed refuses us for good (Unauthenticated, WrongCluster, WrongNode, WrongVersion, NameConflict),
/// else with JoinFailed at the deadline, and the node runs on and keeps trying; Cancelled, Closed,
/// Argument.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn peerage_cluster_join(
    cluster: *const peerage_cluster,
    deadline_ms: u64,
    cancel: *const peerage_cancel,
    error: *mut *mut peerage_error,
) -> peerage_status {
    // SAFETY: the header demands living handles or NULL, and a place for a pointer or NULL.
    unsafe {
        call(error, || {
            let cluster = argument(cluster, "cluster")?.cluster.clone();
            let deadline = deadline(deadline_ms)?;
            wait(cancel_of(cancel), async move { cluster.join(deadline).await })
        })
    }
}

/// The address that is announced to others, as `ip:port`. It belongs to the handle; nothing for
/// NULL. Never waits; any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn peerage_cluster_addr(cluster: *const peerage_cluster) -> peerage_str {
    // SAFETY: the header demands a living handle or NULL.
    let cluster = unsafe { cluster.as_ref() };
    read(peerage_str::NONE, || cluster.map_or(peerage_str::NONE, |c| peerage_str::of(&c.addr)))
}

/// The address that the socket is bound to; differs from the announced one where `advertise` was
/// given. It belongs to the handle; nothing for NULL. Never waits; any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn peerage_cluster_bound_addr(
    cluster: *const peerage_cluster,
) -> peerage_str {
    // SAFETY: the header demands a living handle or NULL.
    let cluster = unsafe { cluster.as_ref() };
    read(peerage_str::NONE, || {
        cluster.map_or(peerage_str::NONE, |c| peerage_str::of(&c.bound_addr))
    })
}

/// Announces these tags in place of the present ones (at most 64, 2048 bytes in all); waits until
/// our own view has them, which takes no network. Fails with Argument, Closed, Cancelled.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn peerage_cluster_set_tags(
    cluster: *const peerage_cluster,
    tags: peerage_tags,
    cancel: *const peerage_cancel,
    error: *mut *mut peerage_error,
) -> peerage_status {
    // SAFETY: the header demands living handles or NULL, and tags that are there.
    unsafe {
        call(error, || {
            let cluster = argument(cluster, "cluster")?.cluster.clone();
            let tags = Face::C.tags("tags", tags.value())?;
            wait(cancel_of(cancel), async move { cluster.set_tags(tags).await })
        })
    }
}

/// Announces one tag, or another value of it, and leaves the others as they are, also those that
/// another thread changes at the same time; waits until our own view has it, which takes no
/// network. Fails with Argument (64 tags at most, 2048 bytes in all), Closed, Cancelled.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn peerage_cluster_update_tag(
    cluster: *const peerage_cluster,
    key: peerage_str,
    value: peerage_str,
    cancel: *const peerage_cancel,
    error: *mut *mut peerage_error,
) -> peerage_status {
    // SAFETY: the header demands living handles or NULL, and texts that are there.
    unsafe {
        call(error, || {
            let cluster = argument(cluster, "cluster")?.cluster.clone();
            let key = Face::C.text("key", key.value())?;
            let value = Face::C.text("value", value.value())?;
            wait(cancel_of(cancel), async move { cluster.update_tag(&key, &value).await })
        })
    }
}

/// Announces one tag no more; `removed` says whether it was announced, and may be NULL. Waits and
/// fails like `peerage_cluster_update_tag`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn peerage_cluster_remove_tag(
    cluster: *const peerage_cluster,
    key: peerage_str,
    cancel: *const peerage_cancel,
    removed: *mut bool,
    error: *mut *mut peerage_error,
) -> peerage_status {
    // SAFETY: the header demands living handles or NULL, text that is there, and places for a flag
    // and a pointer or NULL.
    unsafe {
        call(error, || {
            let cluster = argument(cluster, "cluster")?.cluster.clone();
            let key = Face::C.text("key", key.value())?;
            let was = wait(cancel_of(cancel), async move { cluster.remove_tag(&key).await })?;
            if !removed.is_null() {
                removed.write(was);
            }
            Ok(())
        })
    }
}

/// Changes the secrets while the node runs: from now on it proves itself by the first, and believes
/// whoever holds any of them (1 to 8). Links made with another first secret are made anew at once,
/// for all requests, messages and streams to come. A link made with a secret that is not among these is
/// closed within 5 s: what is still under way on it, such as a stream opened before, ends with LinkLost.
/// So a secret is replaced without an interruption in three steps, each on all nodes before the next:
/// old and new, new and old, new. Takes no network; any thread. Fails with Argument, Closed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn peerage_cluster_set_secrets(
    cluster: *const peerage_cluster,
    secrets: peerage_strs,
    error: *mut *mut peerage_error,
) -> peerage_status {
    // SAFETY: the header demands a living handle or NULL, and texts that are there.
    unsafe {
        call(error, || {
            let cluster = &argument(cluster, "cluster")?.cluster;
            cluster.set_secrets(&Face::C.secrets("secrets", secrets.value())?)
        })
    }
}

/// Reads the PEM files again, which the node does by itself within two seconds after they were
/// changed; waits for it. Where they cannot be used those before stay in use. Fails with Config,
/// Argument (a node that was not started with PEM files), Closed, Cancelled.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn peerage_cluster_reload_certificates(
    cluster: *const peerage_cluster,
    cancel: *const peerage_cancel,
    error: *mut *mut peerage_error,
) -> peerage_status {
    // SAFETY: the header demands living handles or NULL.
    unsafe {
        call(error, || {
            let cluster = argument(cluster, "cluster")?.cluster.clone();
            wait(cancel_of(cancel), async move { cluster.reload_certificates().await })
        })
    }
}

/// Counters since the start, and gauges as of now. The caller sets `stats->struct_size` to
/// `sizeof(peerage_stats)` before. Never waits; any thread. Fails with Argument.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn peerage_cluster_stats(
    cluster: *const peerage_cluster,
    stats: *mut peerage_stats,
    error: *mut *mut peerage_error,
) -> peerage_status {
    // SAFETY: the header demands a living handle or NULL, and a struct of the said size or NULL.
    unsafe {
        call(error, || {
            let cluster = &argument(cluster, "cluster")?.cluster;
            if stats.is_null() {
                return Err(null("stats"));
            }
            let struct_size = ptr::addr_of!((*stats).struct_size).read();
            config::check_size(struct_size, size_of::<usize>() + size_of::<u64>())?;
            let found = peerage_stats { struct_size, ..record::stats(&cluster.stats()) };
            let known = struct_size.min(size_of::<peerage_stats>());
            ptr::copy_nonoverlapping(ptr::from_ref(&found).cast(), stats.cast::<u8>(), known);
            ptr::write_bytes(stats.cast::<u8>().add(known), 0, struct_size - known);
            Ok(())
        })
    }
}

/// Leaves: announces it and waits until that has spread (at most `leave_timeout`), lets requests
/// under way finish (at most `drain_timeout`), closes everything. A second call gets the same
/// report. The handle is still to be freed. `report` may be NULL. Fails with Cancelled (the node
/// goes on leaving), Argument, or the reason why the node had ended by itself.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn peerage_cluster_leave(
    cluster: *const peerage_cluster,
    cancel: *const peerage_cancel,
    report: *mut *const peerage_leave_report,
    error: *mut *mut peerage_error,
) -> peerage_status {
    // SAFETY: the header demands living handles or NULL, and places for pointers or NULL.
    unsafe {
        call(error, || {
            give_report(report, None);
            let cluster = argument(cluster, "cluster")?.cluster.clone();
            let left = wait(cancel_of(cancel), async move { cluster.leave().await })?;
            give_report(report, Some(left));
            Ok(())
        })
    }
}

/// Stops at once, without a goodbye (others will find us failed) and without waiting for requests;
/// waits until no task and no socket of this node is left. `report` may be NULL. Fails like
/// `peerage_cluster_leave`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn peerage_cluster_shutdown_now(
    cluster: *const peerage_cluster,
    cancel: *const peerage_cancel,
    report: *mut *const peerage_leave_report,
    error: *mut *mut peerage_error,
) -> peerage_status {
    // SAFETY: the header demands living handles or NULL, and places for pointers or NULL.
    unsafe {
        call(error, || {
            give_report(report, None);
            let cluster = argument(cluster, "cluster")?.cluster.clone();
            let ended = wait(cancel_of(cancel), async move { cluster.shutdown_now().await })?;
            give_report(report, Some(ended));
            Ok(())
        })
    }
}

/// Whether the node runs: `PEERAGE_OK` while it does, else the reason why it ended (Closed after a
/// leave or a stop, NameConflict, Internal), with an error object that says more. Argument for
/// NULL. Never waits; any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn peerage_cluster_closed(
    cluster: *const peerage_cluster,
    error: *mut *mut peerage_error,
) -> peerage_status {
    // SAFETY: the header demands a living handle or NULL, and a place for a pointer or NULL.
    unsafe {
        call(error, || -> Result<()> {
            argument(cluster, "cluster")?.cluster.closed().map_or(Ok(()), Err::<(), Error>)
        })
    }
}

/// Gives up the handle; NULL is fine. A node that is still running is stopped without waiting and
/// without a goodbye, once calls under way on it have returned: use `peerage_cluster_leave` to go
/// properly. Subscriptions, snapshots and everything else that was got from it stay valid until
/// they are freed themselves, in any order.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn peerage_cluster_free(cluster: *mut peerage_cluster) {
    // SAFETY: the header demands a handle that was not freed, or NULL.
    unsafe { free(cluster) };
}

/// Frees a report; NULL is fine.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn peerage_leave_report_free(report: *const peerage_leave_report) {
    // SAFETY: the header demands a report that was not freed, or NULL; it came from `give_report`
    // as the first field of an `Owned`.
    unsafe { free(report.cast_mut().cast::<Owned>()) };
}

/// A report with what it points to.
#[repr(C)]
struct Owned {
    report: peerage_leave_report,
    _arena: Arena,
}

/// # Safety
/// `place` must be NULL or a place for a pointer.
unsafe fn give_report(place: *mut *const peerage_leave_report, report: Option<Arc<LeaveReport>>) {
    if place.is_null() {
        return;
    }
    let pointer = report.map_or(ptr::null(), |report| {
        let mut arena = Arena::default();
        let report = record::leave_report(&report, &mut arena);
        Box::into_raw(Box::new(Owned { report, _arena: arena })).cast_const().cast()
    });
    // SAFETY: the caller's promise.
    unsafe { place.write(pointer) };
}
