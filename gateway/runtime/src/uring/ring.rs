//! The ring itself: how it is set up, and the one place that enters the kernel.

use std::io;
use std::ptr::NonNull;
use std::time::Duration;

use io_uring::types::{SubmitArgs, Timespec};
use io_uring::{
    Builder, CompletionQueue, EnterFlags, IoUring, Probe, SubmissionQueue, Submitter, cqueue, opcode, squeue,
};

use super::UringRefusal;
use crate::coalesce::ENOUGH;
use crate::reactor::ReactorConfig;

/// An io_uring of the calling thread, split for its whole life.
///
/// One `Submitter` stays: a new one would forget the registered descriptor. Its `submit` helpers are not used, since
/// they leave `GETEVENTS` out when nothing is waited for, and only that flag makes the kernel run deferred work and
/// flush an overflown completion queue.
pub(super) struct Ring {
    submission: SubmissionQueue<'static>,
    completion: CompletionQueue<'static>,
    submitter: Submitter<'static>,
    /// Flags of every enter on this kernel.
    enter_flags: EnterFlags,
    /// Entries pushed so far, wrapping.
    pushed: u32,
    features: Features,
    /// Last, so that what borrows from the ring is dropped before it.
    _ring: RingBox,
}

/// The ring on the heap, freed when dropped.
struct RingBox(NonNull<IoUring>);

impl Drop for RingBox {
    fn drop(&mut self) {
        // SAFETY: the pointer came from `Box::into_raw` and is freed only here; `Ring` drops its borrows first.
        drop(unsafe { Box::from_raw(self.0.as_ptr()) });
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        // The registration holds the ring as well: with it the ring, and every socket it polls, would live as long as
        // the thread.
        if self.features.registered_ring {
            let _ = self.submitter.unregister_ring_fd();
        }
    }
}

/// How long to stay in the kernel.
#[derive(Clone, Copy)]
pub(super) struct Wait {
    is_wanted: bool,
    timeout: Option<Duration>,
    gather: Duration,
}

impl Wait {
    /// Not at all.
    pub(super) const NONE: Self = Self {
        is_wanted: false,
        timeout: None,
        gather: Duration::ZERO,
    };

    /// Until there is a completion or `timeout` has passed; and not before `gather` has, unless there are many.
    pub(super) fn for_completion(timeout: Option<Duration>, gather: Duration) -> Self {
        Self {
            is_wanted: true,
            timeout,
            gather: timeout.map_or(gather, |timeout| gather.min(timeout)),
        }
    }
}

/// What this kernel offers beyond the required.
#[derive(Clone, Copy, Debug)]
pub struct Features {
    no_sqarray: bool,
    registered_ring: bool,
    no_iowait: bool,
    min_timeout: bool,
}

impl std::fmt::Display for Features {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("deferred task work")?;
        for (present, name) in [
            (self.registered_ring, "registered ring"),
            (self.no_sqarray, "no submission array"),
            (self.no_iowait, "no iowait"),
            (self.min_timeout, "minimum wait"),
        ] {
            if present {
                write!(f, ", {name}")?;
            }
        }
        Ok(())
    }
}

impl Ring {
    pub(super) fn open(config: &ReactorConfig) -> Result<Self, UringRefusal> {
        let (ring, no_sqarray) = set_up(config).map_err(UringRefusal::from_setup)?;
        require_features(&ring)?;
        let no_iowait = ring.params().is_feature_no_iowait();
        let min_timeout = ring.params().is_feature_min_timeout();
        let ring = NonNull::from(Box::leak(Box::new(ring)));
        let owner = RingBox(ring);
        // SAFETY: the box stays where it is until `owner` is dropped, which `Ring` does after these three; nobody else
        // refers to it.
        let (mut submitter, submission, completion) = unsafe { &mut *ring.as_ptr() }.split();
        require_operations(&submitter)?;
        // Only saves a look-up per enter; a process may be at its limit of 16 per thread.
        let registered_ring = submitter.register_ring_fd().is_ok();
        let enter_flags = if no_iowait {
            EnterFlags::NO_IOWAIT
        } else {
            EnterFlags::empty()
        };
        let features = Features {
            no_sqarray,
            registered_ring,
            no_iowait,
            min_timeout,
        };
        Ok(Self {
            submission,
            completion,
            submitter,
            enter_flags,
            pushed: 0,
            features,
            _ring: owner,
        })
    }

    pub(super) fn features(&self) -> Features {
        self.features
    }

    /// Returns whether `entries` more fit into the submission queue.
    pub(super) fn has_room(&mut self, entries: usize) -> bool {
        self.submission.capacity() - self.submission.len() >= entries
    }

    /// Returns the number of the next entry, counted from the first ever pushed, wrapping.
    pub(super) fn next_entry(&self) -> u32 {
        self.pushed
    }

    /// Returns how many entries the kernel has consumed, counted as in [`Ring::next_entry`].
    pub(super) fn consumed(&self) -> u32 {
        self.pushed.wrapping_sub(self.submission.len() as u32)
    }

    /// Queues a request, for which there must be room.
    ///
    /// # Safety
    /// Memory the entry points to must stay valid until the kernel is done with the request.
    pub(super) unsafe fn push(&mut self, entry: &squeue::Entry) {
        // SAFETY: the caller vouches for the memory.
        unsafe { self.submission.push(entry) }.expect("callers make room first");
        self.pushed = self.pushed.wrapping_add(1);
    }

    /// Returns whether the kernel has something to do: entries to consume, deferred work, or an overflow to flush.
    pub(super) fn needs_enter(&mut self) -> bool {
        self.submission.sync();
        !self.submission.is_empty() || self.submission.taskrun() || self.submission.cq_overflow()
    }

    /// Submits everything queued, runs what the kernel has deferred, and sleeps as `wait` says.
    ///
    /// Errors: `ETIME` and `EINTR` are not errors. `EBUSY`: the completion queue must be emptied first. `EAGAIN` and
    /// `ENOMEM`: the kernel is short of memory. In each case what was not consumed is still queued.
    /// Source: io_uring_enter(2).
    pub(super) fn enter(&mut self, wait: Wait) -> io::Result<()> {
        self.submission.sync();
        self.completion.sync();
        let timespec = wait
            .timeout
            .map(|timeout| Timespec::from(timeout.min(TIMEOUT_MAX)));
        let args = match &timespec {
            Some(timespec) => SubmitArgs::new().timespec(timespec),
            None => SubmitArgs::new(),
        };
        let (want, min_wait_us) = match wait.gather.as_micros() {
            micros if micros > 0 && self.features.min_timeout => {
                (ENOUGH, micros.min(u128::from(u32::MAX)) as u32)
            }
            _ => (u32::from(wait.is_wanted), 0),
        };
        let args = args.min_wait_usec(min_wait_us);
        let flags = self.enter_flags | EnterFlags::GETEVENTS | EnterFlags::EXT_ARG;
        let to_submit = self.submission.len() as u32;
        // SAFETY: `args` has the layout that EXT_ARG announces and outlives the call, as does the time it points to;
        // the memory behind the entries is the promise of `push`.
        let entered = unsafe { self.submitter.enter(to_submit, want, flags.bits(), Some(&args)) };
        self.submission.sync();
        self.completion.sync();
        match entered {
            Ok(_) => Ok(()),
            Err(error) if matches!(error.raw_os_error(), Some(libc::ETIME | libc::EINTR)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Takes the oldest completion.
    pub(super) fn next_completion(&mut self) -> Option<cqueue::Entry> {
        self.completion.next()
    }

    /// Gives the places of taken completions back and looks for new ones; `true` when there are any.
    pub(super) fn sync_completions(&mut self) -> bool {
        self.completion.sync();
        !self.completion.is_empty()
    }

    /// Returns whether completions wait in the kernel because the queue was full.
    pub(super) fn is_overflown(&mut self) -> bool {
        self.submission.cq_overflow()
    }
}

/// Longer times overflow the kernel's; `wait` may return early.
const TIMEOUT_MAX: Duration = Duration::from_secs(1 << 30);

/// A close takes two entries at once.
const SQ_ENTRIES_MIN: u32 = 4;

/// Sets the ring up with every flag of the design; the newest one is left out where the kernel does not know it.
fn set_up(config: &ReactorConfig) -> io::Result<(IoUring, bool)> {
    let sq_entries = config.sq_entries.max(SQ_ENTRIES_MIN);
    let mut builder: Builder = IoUring::builder();
    builder
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_coop_taskrun()
        .setup_taskrun_flag()
        .setup_submit_all()
        .setup_clamp()
        .setup_cqsize(config.cq_entries.max(sq_entries));
    let mut newest = builder.clone();
    newest.setup_no_sqarray();
    match newest.build(sq_entries) {
        Ok(ring) => Ok((ring, true)),
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
            builder.build(sq_entries).map(|ring| (ring, false))
        }
        Err(error) => Err(error),
    }
}

fn require_features(ring: &IoUring) -> Result<(), UringRefusal> {
    let params = ring.params();
    for (present, name) in [
        (
            params.is_feature_nodrop(),
            "keeping completions when their queue overflows",
        ),
        (params.is_feature_ext_arg(), "waiting with a timeout"),
        (
            params.is_feature_skip_cqe_on_success(),
            "sends without completions",
        ),
    ] {
        if !present {
            return Err(UringRefusal::Lacks(name));
        }
    }
    Ok(())
}

fn require_operations(submitter: &Submitter<'_>) -> Result<(), UringRefusal> {
    let mut probe = Probe::new();
    submitter
        .register_probe(&mut probe)
        .map_err(UringRefusal::from_setup)?;
    for (code, name) in [
        (opcode::PollAdd::CODE, "poll"),
        (opcode::Send::CODE, "send"),
        (opcode::SendMsg::CODE, "sendmsg"),
        (opcode::AsyncCancel2::CODE, "cancel"),
        (opcode::Close::CODE, "close"),
    ] {
        if !probe.is_supported(code) {
            return Err(UringRefusal::Lacks(name));
        }
    }
    Ok(())
}
