//! The links to all routers, and which of them leads to a slot.

use wire_base::ids::UserId;
use wire_link::LinkId;

use super::Session;
use super::uplink::Uplink;
use crate::limits::{LINK_BATCH_BYTES, LINK_BYTES_MAX};
use crate::routes::{RouterId, Routes};

/// One [`Uplink`] for each router, and the owner of every slot.
///
/// Shape: about [`LINK_BYTES_MAX`] bytes that wait for all links, and [`LINK_BATCH_BYTES`] more for each: one router that
/// takes nothing leaves the others that much.
pub(super) struct Uplinks {
    routes: Routes,
    /// By router.
    uplinks: Vec<Uplink>,
}

impl Uplinks {
    /// Returns that the first router owns everything, without a link to it.
    pub(super) fn new() -> Self {
        let mut uplinks = Self {
            routes: Routes::single(RouterId(0)),
            uplinks: Vec::new(),
        };
        uplinks.grow(1);
        uplinks
    }

    pub(super) const fn routes(&self) -> &Routes {
        &self.routes
    }

    /// Sets the owner of every slot; returns the owners before.
    pub(super) fn set_routes(&mut self, routes: Routes) -> Routes {
        self.grow(routes.routers());
        std::mem::replace(&mut self.routes, routes)
    }

    /// Notes a link to a router, which may be one that owns nothing yet.
    pub(super) fn handle_up(&mut self, router: RouterId, link: LinkId) {
        self.grow(usize::from(router.0) + 1);
        self.uplinks[usize::from(router.0)].handle_up(link);
    }

    /// Returns every router that was ever named.
    pub(super) fn routers(&self) -> impl Iterator<Item = RouterId> + use<> {
        (0..self.uplinks.len() as u16).map(RouterId)
    }

    /// Returns the router that a link leads to; `None` when the link is over.
    pub(super) fn find(&self, link: LinkId) -> Option<RouterId> {
        self.routers().find(|&router| self.get(router).is(link))
    }

    /// Returns the router of a session, once its user is known.
    pub(super) fn of_session(&self, session: &Session) -> Option<RouterId> {
        session.user().map(|user| self.routes.of_user(user))
    }

    /// Returns whether what a router says of a session counts: it owns its user.
    pub(super) fn owns(&self, router: RouterId, session: &Session) -> bool {
        self.of_session(session) == Some(router)
    }

    /// Returns whether there is a link to a router, which need not have been named before.
    pub(super) fn is_up(&self, router: RouterId) -> bool {
        let uplink = self.uplinks.get(usize::from(router.0));
        uplink.is_some_and(Uplink::is_up)
    }

    pub(super) fn get(&self, router: RouterId) -> &Uplink {
        &self.uplinks[usize::from(router.0)]
    }

    pub(super) fn get_mut(&mut self, router: RouterId) -> &mut Uplink {
        &mut self.uplinks[usize::from(router.0)]
    }

    /// Returns the link to the router of a user.
    pub(super) fn of_user(&mut self, user: UserId) -> &mut Uplink {
        let router = self.routes.of_user(user);
        self.get_mut(router)
    }

    /// Returns whether records may be pushed to a router.
    pub(super) fn has_room(&self, router: RouterId) -> bool {
        self.has_room_within(router, LINK_BYTES_MAX)
    }

    /// Returns whether records that can wait as state may be pushed to a router: only half of the room is theirs.
    pub(super) fn has_room_for_state(&self, router: RouterId) -> bool {
        !self.get(router).is_refused() && self.has_room_within(router, LINK_BYTES_MAX / 2)
    }

    fn has_room_within(&self, router: RouterId, bytes_max: usize) -> bool {
        let uplink = self.get(router);
        uplink.is_up() && (uplink.len() < LINK_BATCH_BYTES || self.len() < bytes_max)
    }

    /// Returns the bytes that wait for all links.
    pub(super) fn len(&self) -> usize {
        self.uplinks.iter().map(Uplink::len).sum()
    }

    /// Returns how many links stand.
    pub(super) fn up(&self) -> usize {
        self.uplinks.iter().filter(|uplink| uplink.is_up()).count()
    }

    /// Returns whether a router is to be told something that its link would take.
    pub(super) fn has_state(&self) -> bool {
        self.uplinks.iter().any(Uplink::has_state)
    }

    /// Ends the batches of a tick.
    pub(super) fn cut(&mut self) {
        self.uplinks.iter_mut().for_each(Uplink::cut);
    }

    /// Returns the next batch of a link that is not full.
    pub(super) fn poll(&mut self) -> Option<(LinkId, bytes::Bytes)> {
        self.uplinks.iter_mut().find_map(Uplink::poll)
    }

    #[cfg(test)]
    pub(super) fn is_idle(&self) -> bool {
        self.uplinks
            .iter()
            .all(|uplink| uplink.acks.is_empty() && uplink.gone.is_empty() && uplink.behind.is_empty())
    }

    fn grow(&mut self, routers: usize) {
        while self.uplinks.len() < routers {
            self.uplinks.push(Uplink::new());
        }
    }
}

const _: () = assert!(LINK_BATCH_BYTES <= LINK_BYTES_MAX / 2); // What every router has at least is within both bounds.
