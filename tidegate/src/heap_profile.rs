//! Where the memory in use was allocated, counted by an allocator that notes the stack of each call.

#[global_allocator]
static ALLOCATOR: dhat::Alloc = dhat::Alloc;

/// Counts from now on; when it is dropped, what is in use is written to `dhat-heap.json` in the working directory, by stack.
pub(crate) fn start() -> dhat::Profiler {
    dhat::Profiler::builder()
        .trim_backtraces(Some(FRAMES_MAX))
        .build()
}

/// Enough to tell which crate asked.
const FRAMES_MAX: usize = 24;
