//! Which router owns which slots, as the gateway was told last.

use std::sync::Arc;

use wire_base::ids::{ConversationId, UserId};
use wire_base::slots::Slot;

/// A router, as the driver numbers them: from 0, without gaps, and the same router as long as the process runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RouterId(pub u16);

/// The owner of every slot.
///
/// Shape: the numbers of slots are fixed when a cluster is created; one router alone has one slot of each kind, and then no
/// id is hashed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Routes {
    users: Arc<[RouterId]>,
    conversations: Arc<[RouterId]>,
}

impl Routes {
    /// Returns the owners of all user slots and of all conversation slots; `None` where there are no slots, or over 65,535.
    pub fn new(users: &[RouterId], conversations: &[RouterId]) -> Option<Self> {
        let is_valid = |slots: &[RouterId]| (1..=usize::from(u16::MAX)).contains(&slots.len());
        (is_valid(users) && is_valid(conversations)).then(|| Self {
            users: users.into(),
            conversations: conversations.into(),
        })
    }

    /// Returns that one router owns everything.
    pub fn single(router: RouterId) -> Self {
        Self {
            users: [router].into(),
            conversations: [router].into(),
        }
    }

    /// Returns the router of a user.
    pub fn of_user(&self, user: UserId) -> RouterId {
        match &*self.users {
            [router] => *router,
            owners => owners[usize::from(Slot::of_user(user, owners.len() as u16).0)],
        }
    }

    /// Returns the slot of a conversation; `id` is asked only if that depends on it.
    pub fn conversation_slot(&self, id: impl FnOnce() -> ConversationId) -> Slot {
        match self.conversations.len() as u16 {
            1 => Slot(0),
            count => Slot::of_conversation(id(), count),
        }
    }

    /// Returns the router of a conversation slot of this view.
    pub fn of_conversations(&self, slot: Slot) -> RouterId {
        self.conversations[usize::from(slot.0)]
    }

    /// Returns whether slots have the same numbers in another view.
    pub fn has_slots_of(&self, other: &Self) -> bool {
        self.users.len() == other.users.len() && self.conversations.len() == other.conversations.len()
    }

    /// Returns how many routers there are, those included that own nothing.
    pub fn routers(&self) -> usize {
        let ids = self.users.iter().chain(&*self.conversations);
        ids.map(|router| usize::from(router.0) + 1).max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_leads_to_the_owner_of_its_slot() {
        let (a, b) = (RouterId(0), RouterId(1));
        let user = |n| UserId::new(n).unwrap();
        let routes = Routes::new(&[a, b], &[b, a, a]).unwrap();
        for n in 1..50 {
            let owner = [a, b][usize::from(Slot::of_user(user(n), 2).0)];
            assert_eq!(routes.of_user(user(n)), owner);
            let id = ConversationId::direct(user(n), user(n + 1));
            let slot = routes.conversation_slot(|| id);
            assert_eq!(slot, Slot::of_conversation(id, 3));
            assert_eq!(routes.of_conversations(slot), [b, a, a][usize::from(slot.0)]);
        }
        assert_eq!(routes.routers(), 2);
    }

    #[test]
    fn one_router_owns_everything_and_hashes_nothing() {
        let routes = Routes::single(RouterId(3));
        assert_eq!(routes.of_user(UserId::new(7).unwrap()), RouterId(3));
        let slot = routes.conversation_slot(|| unreachable!("there is one slot"));
        assert_eq!(routes.of_conversations(slot), RouterId(3));
        assert_eq!(Routes::new(&[], &[RouterId(0)]), None);
        assert_eq!(Routes::new(&[RouterId(0)], &[RouterId(0); 65_536]), None);
    }
}
