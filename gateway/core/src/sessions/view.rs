//! Slots that change their router: who is asked from now on, and what the routers must be told.

use super::link::take_gone;
use super::session::Flags;
use super::{Session, Sessions};
use crate::connections::Connections;
use crate::routes::Routes;
use crate::time::Now;

impl Sessions {
    /// Takes the owner of every slot.
    ///
    /// Order: a session whose user has another router is closed at the one before and announced at the new one. What is in
    /// flight is answered by whom it was asked of, or within 15 s as `unavailable`; until then sends to a slot that has moved
    /// wait for the earlier ones, so that a sender's order survives the change.
    pub(super) fn change_view(&mut self, connections: &mut Connections<Session>, routes: Routes, now: Now) {
        if routes == *self.uplinks.routes() {
            return;
        }
        let before = self.uplinks.set_routes(routes);
        self.move_sessions(connections, &before);
        if !before.has_slots_of(self.uplinks.routes()) {
            // Numbers of slots that were noted mean nothing in this view: what is in flight cannot be waited for.
            for request in self.pending.take_all(|request| request.slot.is_some()) {
                self.answer_unavailable(connections, request, "the cluster has other slots now", now);
            }
        }
        self.pending.handle_view(self.uplinks.routes());
    }

    fn move_sessions(&mut self, connections: &mut Connections<Session>, before: &Routes) {
        let mut slot = 0;
        while let Some(id) = connections.next_from(slot) {
            slot = id.slot + 1;
            let Some(session) = connections.session_mut(id) else {
                continue;
            };
            let Some(user) = session.user() else { continue };
            let (old, new) = (before.of_user(user), self.uplinks.routes().of_user(user));
            if old == new {
                continue;
            }
            if let Some(gone) = take_gone(session, id) {
                self.uplinks.get_mut(old).gone.push(gone);
            }
            // Without a link to the router before, its ack goes with the announcement.
            session.flags.set(Flags::ACK_QUEUED, false);
            self.uplinks.get_mut(new).announce_from(id.slot);
        }
        for router in self.uplinks.routers() {
            let mut acks = std::mem::take(&mut self.uplinks.get_mut(router).acks);
            acks.retain(|&id| {
                connections.session(id).is_some_and(|session| {
                    session.flags.contains(Flags::ACK_QUEUED) && self.uplinks.owns(router, session)
                })
            });
            self.uplinks.get_mut(router).acks = acks;
        }
    }
}
