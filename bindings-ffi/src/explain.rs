//! What is known about one member, and how it came to be known.

use peerage::{Explanation, boundary::Face};

use crate::{
    arena::Arena,
    call::{Out, argument, call, free, peerage_status},
    cancel::{cancel_of, peerage_cancel, wait},
    cluster::peerage_cluster,
    error::peerage_error,
    generated::record::{self, peerage_explanation},
    text::peerage_str,
};

/// What is known about another node and how it came to be known: who observed what, and what
/// happened to it before. `explanation` gets NULL about ourselves, and about one that is unknown or
/// was forgotten. Waits for the node's own turn, which takes no network. Fails with Argument,
/// Closed, Cancelled.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn peerage_cluster_explain(
    cluster: *const peerage_cluster,
    id: peerage_str,
    cancel: *const peerage_cancel,
    explanation: *mut *const peerage_explanation,
    error: *mut *mut peerage_error,
) -> peerage_status {
    // SAFETY: the header demands living handles or NULL, text that is there, and places for
    // pointers or NULL.
    unsafe {
        call(error, || {
            let out = Out::new(explanation.cast::<*mut Owned>(), "explanation")?;
            let cluster = argument(cluster, "cluster")?.cluster.clone();
            let id = Face::C.text("id", id.value())?;
            let found = wait(cancel_of(cancel), async move { cluster.explain(&id).await })?;
            if let Some(found) = found {
                out.give(Owned::new(found));
            }
            Ok(())
        })
    }
}

/// Frees an explanation with all that it points to; NULL is fine.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn peerage_explanation_free(explanation: *const peerage_explanation) {
    // SAFETY: the header demands an explanation that was not freed, or NULL; it is the first field
    // of an `Owned`.
    unsafe { free(explanation.cast_mut().cast::<Owned>()) };
}

/// An explanation with what it points to.
#[repr(C)]
struct Owned {
    flat: peerage_explanation,
    _arena: Arena,
    _from: Explanation,
}

impl Owned {
    fn new(from: Explanation) -> Self {
        let mut arena = Arena::default();
        // It points to ids, which do not move with what holds them.
        let flat = record::explanation(&from, &mut arena);
        Self { flat, _arena: arena, _from: from }
    }
}
