//! From the first byte of a connection to its first frame.

use wire_base::ids::ConnectionHandle;
use wire_ws::upgrade::{HeadBuffer, HeadScan, Refusal, Request, parse_request, write_accept};

use super::Hub;
use crate::application::{Accepted, Application};
use crate::connections::Held;
use crate::disconnect::Reason;
use crate::time::Now;

impl<A: Application> Hub<A> {
    /// Takes bytes of the HTTP request, and what follows it.
    pub(super) fn read_upgrade(&mut self, id: ConnectionHandle, bytes: &mut [u8], now: Now) {
        let held = self
            .connections
            .change_input(id, |conn| conn.held.take())
            .flatten();
        let head_bytes = match held.map(|held| *held) {
            Some(Held::Head(head)) => self.read_rest_of_head(id, head, bytes, now),
            _ => self.read_head(id, bytes, now),
        };
        if let Some(head_bytes) = head_bytes
            && self.connections.is_open(id)
        {
            self.read_frames(id, &mut bytes[head_bytes..], now);
        }
    }

    /// Parses a request that begins with `bytes`; returns its length once it is whole.
    fn read_head(&mut self, id: ConnectionHandle, bytes: &[u8], now: Now) -> Option<usize> {
        match parse_request(bytes, &mut HeadScan::new(), |path| {
            self.application.is_endpoint(path)
        }) {
            Ok(Some((request, head_bytes))) => {
                self.decide(id, &request, now);
                Some(head_bytes)
            }
            Ok(None) => self.read_rest_of_head(id, HeadBuffer::default(), bytes, now),
            Err(refusal) => {
                self.refuse(id, refusal, now);
                None
            }
        }
    }

    /// Adds `bytes` to a request that began before; returns how many of them belonged to it once it is whole.
    fn read_rest_of_head(
        &mut self,
        id: ConnectionHandle,
        mut head: HeadBuffer,
        bytes: &[u8],
        now: Now,
    ) -> Option<usize> {
        let is_endpoint = |path: &str| self.application.is_endpoint(path);
        let parsed = match head.push(bytes) {
            Ok(None) => Ok(None),
            Ok(Some(head_bytes)) => parse_request(head.as_bytes(), &mut HeadScan::new(), is_endpoint)
                .map(|parsed| parsed.map(|(request, _)| (request, head_bytes))),
            Err(error) => Err(error.into()),
        };
        match parsed {
            Ok(Some((request, head_bytes))) => {
                self.decide(id, &request, now);
                Some(head_bytes)
            }
            Ok(None) => {
                self.connections
                    .change_input(id, |conn| conn.held = Some(Box::new(Held::Head(head))));
                None
            }
            Err(refusal) => {
                self.refuse(id, refusal, now);
                None
            }
        }
    }

    /// Answers a whole request.
    fn decide(&mut self, id: ConnectionHandle, request: &Request<'_>, now: Now) {
        if self.drain.is_some() {
            let refusal = Refusal::Unavailable {
                retry_after_s: RETRY_AFTER_S,
            };
            self.connections.refuse(id, refusal, Reason::UpgradeDraining, now);
            return;
        }
        match self.application.upgrade(request, now) {
            Err(refusal) => self.refuse(id, refusal, now),
            Ok(Accepted {
                session,
                subprotocol,
                close,
            }) => {
                self.connections
                    .accept(id, |out| write_accept(out, &request.key, subprotocol), now);
                if let Some(place) = self.connections.session_mut(id) {
                    *place = session;
                }
                self.set_deadline(id, now);
                if let Some(reason) = close {
                    self.connections.close(id, reason, now);
                }
                self.connections.close_surplus(id, now);
            }
        }
    }

    fn refuse(&mut self, id: ConnectionHandle, refusal: Refusal, now: Now) {
        self.connections.refuse(id, refusal, Reason::UpgradeRefused, now);
    }
}

/// `Retry-After` of an upgrade during a drain: by then a balancer has noticed.
pub(super) const RETRY_AFTER_S: u16 = 5;
