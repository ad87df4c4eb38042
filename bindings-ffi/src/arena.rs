//! Where the structs that C gets keep what they point to.

use std::{
    collections::BTreeMap,
    ptr::{self, NonNull},
    sync::Arc,
    time::Duration,
};

use peerage::{Member, NodeId, Phase};

use crate::{
    generated::record::{self, peerage_member, peerage_phase},
    text::{peerage_str, peerage_strs, peerage_tag, peerage_tags},
};

/// Members by pointer, so that the struct may grow.
#[repr(C)]
pub struct peerage_member_list {
    /// The first pointer; may be NULL if there are none.
    pub items: *const *const peerage_member,
    /// How many.
    pub count: usize,
}

/// Phases by pointer, so that the struct may grow.
#[repr(C)]
pub struct peerage_phase_list {
    /// The first pointer; may be NULL if there are none.
    pub items: *const *const peerage_phase,
    /// How many.
    pub count: usize,
}

impl peerage_member_list {
    pub(crate) const NONE: Self = Self { items: ptr::null(), count: 0 };
}

/// Keeps everything that structs for C point to; nothing in it moves or goes before it does. What
/// the core holds (ids, tags) is not copied but kept alive by the members here.
#[derive(Default)]
pub(crate) struct Arena {
    kept: Vec<Arc<Member>>,
    members: Vec<Placed<peerage_member>>,
    tags: Vec<Placed<[peerage_tag]>>,
    lists: Vec<Placed<[*const peerage_member]>>,
    strs: Vec<Placed<[peerage_str]>>,
    texts: Vec<Placed<str>>,
    phases: Vec<Placed<peerage_phase>>,
    phase_lists: Vec<Placed<[*const peerage_phase]>>,
}

/// Owned at a place of its own. A `Box` claims to be the only way to what it holds, which these
/// are not.
struct Placed<T: ?Sized>(NonNull<T>);

impl<T: ?Sized> Placed<T> {
    fn new(owned: Box<T>) -> Self {
        Self(NonNull::from(Box::leak(owned)))
    }

    fn get(&self) -> &T {
        // SAFETY: it lives until it is dropped, and nothing changes it.
        unsafe { self.0.as_ref() }
    }
}

impl<T: ?Sized> Drop for Placed<T> {
    fn drop(&mut self) {
        // SAFETY: it came from a box, and is dropped once.
        drop(unsafe { Box::from_raw(self.0.as_ptr()) });
    }
}

impl Arena {
    pub(crate) fn member(&mut self, member: &Arc<Member>) -> *const peerage_member {
        self.kept.push(member.clone());
        let flat = Placed::new(Box::new(record::member(member, self)));
        let place = ptr::from_ref(flat.get());
        self.members.push(flat);
        place
    }

    pub(crate) fn members(&mut self, members: &[Arc<Member>]) -> peerage_member_list {
        let list = Placed::new(members.iter().map(|member| self.member(member)).collect());
        let view = peerage_member_list { items: list.get().as_ptr(), count: members.len() };
        self.lists.push(list);
        view
    }

    /// The tags of a member that is kept.
    pub(crate) fn tags(&mut self, tags: &BTreeMap<String, String>) -> peerage_tags {
        if tags.is_empty() {
            return peerage_tags::NONE;
        }
        let tag = |(key, value): (&String, &String)| peerage_tag {
            key: peerage_str::of(key),
            value: peerage_str::of(value),
        };
        let list: Placed<[_]> = Placed::new(tags.iter().map(tag).collect());
        let view = peerage_tags { items: list.get().as_ptr(), count: tags.len() };
        self.tags.push(list);
        view
    }

    /// Ids that whoever holds the arena keeps as well.
    pub(crate) fn ids(&mut self, ids: &[NodeId]) -> peerage_strs {
        if ids.is_empty() {
            return peerage_strs::NONE;
        }
        let list: Placed<[_]> =
            Placed::new(ids.iter().map(|id| peerage_str::of(id.as_str())).collect());
        let view = peerage_strs { items: list.get().as_ptr(), count: ids.len() };
        self.strs.push(list);
        view
    }

    pub(crate) fn text(&mut self, text: String) -> peerage_str {
        let text = Placed::new(text.into_boxed_str());
        let view = peerage_str::of(text.get());
        self.texts.push(text);
        view
    }

    /// Phases whose names are static.
    pub(crate) fn phases(&mut self, phases: &[Phase]) -> peerage_phase_list {
        let mut list = Vec::with_capacity(phases.len());
        for phase in phases {
            let flat = Placed::new(Box::new(record::phase(phase, self)));
            list.push(ptr::from_ref(flat.get()));
            self.phases.push(flat);
        }
        let list = Placed::new(list.into_boxed_slice());
        let view = peerage_phase_list { items: list.get().as_ptr(), count: phases.len() };
        self.phase_lists.push(list);
        view
    }
}

pub(crate) fn count(number: impl TryInto<u64>) -> u64 {
    number.try_into().unwrap_or(u64::MAX)
}

pub(crate) fn micros(time: Duration) -> u64 {
    time.as_micros().try_into().unwrap_or(u64::MAX)
}

pub(crate) fn optional_micros(time: Option<Duration>) -> u64 {
    time.map_or(u64::MAX, micros)
}
