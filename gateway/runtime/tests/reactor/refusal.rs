//! A host that does not allow io_uring: found out, named, and worked around.

use std::time::{Duration, Instant};

use runtime::probe::UringRefusal;
use runtime::{Engine, EngineChoice, OpenError, ReactorConfig, open};

use crate::harness::{in_child, is_child, uring_is_allowed};

#[test]
fn auto_takes_io_uring_where_it_works_and_says_why() {
    if !uring_is_allowed() {
        return;
    }
    let start = Instant::now();
    let (_, report) = open(EngineChoice::Auto, ReactorConfig::default()).unwrap();
    assert!(start.elapsed() < Duration::from_secs(1));
    assert_eq!(report.engine, Engine::Uring);
    assert!(
        report
            .to_string()
            .starts_with("engine uring: io_uring works here"),
        "{report}"
    );
}

#[test]
fn a_seccomp_filter_makes_auto_fall_back_and_uring_an_error_with_the_remedy() {
    if !is_child() {
        return in_child("refusal::a_seccomp_filter_makes_auto_fall_back_and_uring_an_error_with_the_remedy");
    }
    refuse_io_uring(libc::EPERM);
    let start = Instant::now();
    let (_, report) = open(EngineChoice::Auto, ReactorConfig::default()).unwrap();
    assert!(start.elapsed() < Duration::from_secs(1));
    assert_eq!(report.engine, Engine::Poll);
    // The setting is read first: a host that has it off as well gets that answer, which is as true.
    let (names, remedy) = match std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled") {
        Ok(level) if level.trim() != "0" => ("kernel.io_uring_disabled", "set it to 0"),
        _ => ("seccomp", "allow io_uring_setup"),
    };
    assert!(report.reason.contains(names), "{report}");
    let Err(error) = open(EngineChoice::Uring, ReactorConfig::default()) else {
        panic!("opened in spite of the filter")
    };
    assert!(matches!(
        error,
        OpenError::Uring(UringRefusal::Forbidden | UringRefusal::Disabled { .. })
    ));
    let text = error.to_string();
    assert!(
        text.contains(names) && text.contains(remedy) && text.contains("--engine poll"),
        "{text}"
    );
}

#[test]
fn a_kernel_without_io_uring_is_named() {
    if !is_child() {
        return in_child("refusal::a_kernel_without_io_uring_is_named");
    }
    refuse_io_uring(libc::ENOSYS);
    let (_, report) = open(EngineChoice::Auto, ReactorConfig::default()).unwrap();
    assert_eq!(report.engine, Engine::Poll);
    assert!(
        report.reason.contains("ENOSYS") && report.reason.contains("Linux 6.1"),
        "{report}"
    );
}

#[test]
fn the_setting_is_named_with_its_level() {
    let text = UringRefusal::Disabled { level: 2 }.to_string();
    assert!(
        text.contains("kernel.io_uring_disabled is 2") && text.contains("sysctl -w"),
        "{text}"
    );
}

#[test]
fn engines_are_chosen_by_name() {
    assert_eq!("auto".parse(), Ok(EngineChoice::Auto));
    assert_eq!("uring".parse(), Ok(EngineChoice::Uring));
    assert_eq!("poll".parse(), Ok(EngineChoice::Poll));
    let error = "epoll".parse::<EngineChoice>().unwrap_err();
    assert_eq!(
        error.to_string(),
        "\"epoll\" is not an engine: auto, uring or poll"
    );
}

/// Makes `io_uring_setup` fail with `errno` for this thread and its children, as a container's filter does.
fn refuse_io_uring(errno: i32) {
    const NUMBER_OFFSET: u32 = 0; // offsetof(struct seccomp_data, nr)
    let step = |code: u32, jt, jf, k| libc::sock_filter {
        code: code as u16,
        jt,
        jf,
        k,
    };
    let mut program = [
        step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, NUMBER_OFFSET),
        step(
            libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K,
            0,
            1,
            libc::SYS_io_uring_setup as u32,
        ),
        step(
            libc::BPF_RET | libc::BPF_K,
            0,
            0,
            libc::SECCOMP_RET_ERRNO | errno as u32,
        ),
        step(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let filter = libc::sock_fprog {
        len: program.len() as u16,
        filter: program.as_mut_ptr(),
    };
    // SAFETY: `filter` describes `program`, and both outlive the calls; the kernel copies the program.
    unsafe {
        assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
        assert_eq!(
            libc::prctl(
                libc::PR_SET_SECCOMP,
                libc::SECCOMP_MODE_FILTER,
                &raw const filter,
                0,
                0
            ),
            0
        );
    }
}
