//! Where the structs that C gets keep what they point to.

use std::{
    collections::BTreeMap,
    ptr::{self, NonNull},
    sync::Arc,
    time::Duration,
};

use peerage::{Happened, Member, Observation, Phase};

use crate::{
    generated::record::{
        self, peerage_happened, peerage_member, peerage_observation, peerage_phase,
    },
    text::{peerage_str, peerage_tag, peerage_tags},
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

/// Observations by pointer, so that the struct may grow.
#[repr(C)]
pub struct peerage_observation_list {
    /// The first pointer; may be NULL if there are none.
    pub items: *const *const peerage_observation,
    /// How many.
    pub count: usize,
}

/// What happened, by pointer, so that the struct may grow.
#[repr(C)]
pub struct peerage_happened_list {
    /// The first pointer; may be NULL if there are none.
    pub items: *const *const peerage_happened,
    /// How many.
    pub count: usize,
}

impl peerage_member_list {
    pub(crate) const NONE: Self = Self { items: ptr::null(), count: 0 };
}

impl peerage_observation_list {
    pub(crate) const NONE: Self = Self { items: ptr::null(), count: 0 };
}

/// Keeps everything that structs for C point to; nothing in it moves or goes before it does. What
/// the core holds of members (ids, tags) is not copied but kept alive by the members here; what it
/// holds of observations, whoever holds the arena keeps as well.
#[derive(Default)]
pub(crate) struct Arena {
    kept: Vec<Arc<Member>>,
    members: Kept<peerage_member>,
    tags: Vec<Placed<[peerage_tag]>>,
    texts: Vec<Placed<str>>,
    phases: Kept<peerage_phase>,
    observations: Kept<peerage_observation>,
    happened: Kept<peerage_happened>,
}

/// Structs of one kind, and lists of pointers to them.
struct Kept<T> {
    items: Vec<Placed<T>>,
    lists: Vec<Placed<[*const T]>>,
}

impl<T> Default for Kept<T> {
    fn default() -> Self {
        Self { items: Vec::new(), lists: Vec::new() }
    }
}

impl<T> Kept<T> {
    fn item(&mut self, item: T) -> *const T {
        let item = Placed::new(Box::new(item));
        let place = ptr::from_ref(item.get());
        self.items.push(item);
        place
    }

    /// The first pointer of a list of them; NULL for none.
    fn list(&mut self, places: Vec<*const T>) -> *const *const T {
        if places.is_empty() {
            return ptr::null();
        }
        let list = Placed::new(places.into_boxed_slice());
        let first = list.get().as_ptr();
        self.lists.push(list);
        first
    }
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
        let flat = record::member(member, self);
        self.members.item(flat)
    }

    pub(crate) fn members(&mut self, members: &[Arc<Member>]) -> peerage_member_list {
        let places = members.iter().map(|member| self.member(member)).collect();
        peerage_member_list { items: self.members.list(places), count: members.len() }
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

    pub(crate) fn text(&mut self, text: String) -> peerage_str {
        let text = Placed::new(text.into_boxed_str());
        let view = peerage_str::of(text.get());
        self.texts.push(text);
        view
    }

    /// Phases whose names are static.
    pub(crate) fn phases(&mut self, phases: &[Phase]) -> peerage_phase_list {
        let mut places = Vec::with_capacity(phases.len());
        for phase in phases {
            let flat = record::phase(phase, self);
            places.push(self.phases.item(flat));
        }
        peerage_phase_list { items: self.phases.list(places), count: phases.len() }
    }

    /// Observations that whoever holds the arena keeps as well.
    pub(crate) fn observations(&mut self, seen: &[Observation]) -> peerage_observation_list {
        let mut places = Vec::with_capacity(seen.len());
        for observation in seen {
            let flat = record::observation(observation, self);
            places.push(self.observations.item(flat));
        }
        peerage_observation_list { items: self.observations.list(places), count: seen.len() }
    }

    /// What happened, which whoever holds the arena keeps as well.
    pub(crate) fn history(&mut self, history: &[Happened]) -> peerage_happened_list {
        let mut places = Vec::with_capacity(history.len());
        for happened in history {
            let flat = record::happened(happened, self);
            places.push(self.happened.item(flat));
        }
        peerage_happened_list { items: self.happened.list(places), count: history.len() }
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

pub(crate) fn optional_number(number: Option<f64>) -> f64 {
    number.unwrap_or(f64::NAN)
}
