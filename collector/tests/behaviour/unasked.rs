//! Former files that no pattern names, of logs of which nothing is known when they are seen first: read
//! where they were made after the agent looked there first, left alone where they lay there before.

use std::{
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::process::Signal;

use crate::{
    copytruncate::compress,
    harness::{Agent, World, append, body, in_every_mode},
};

in_every_mode!(
    what_was_rotated_before_its_first_look_is_read_while_its_writer_has_it,
    what_was_rotated_before_the_first_look_at_its_directory_is_read,
    what_was_rotated_again_before_its_first_look_is_read,
    what_was_rotated_while_no_agent_ran_is_read,
    what_was_rotated_in_a_new_directory_while_no_agent_ran_is_read,
    what_lay_there_before_the_live_file_is_left_alone,
    what_was_left_alone_is_left_alone_after_a_restart,
    what_comes_with_an_older_directory_is_left_alone,
    what_was_made_before_its_log_was_configured_is_left_alone,
);

/// Longer than a former file is waited for.
const TOLD: Duration = Duration::from_secs(4);

/// A program that is told late that its log was rotated.
struct Program {
    live: PathBuf,
    file: File,
    written: usize,
}

impl Program {
    fn start(live: &Path) -> Self {
        fs::create_dir_all(live.parent().unwrap()).unwrap();
        let file = File::options().create(true).append(true).open(live).unwrap();
        Self { live: live.to_owned(), file, written: 0 }
    }

    fn write(&mut self, count: usize) {
        for _ in 0..count {
            writeln!(self.file, "line {}", self.written).unwrap();
            self.written += 1;
        }
    }

    fn name(&self, ending: &str) -> PathBuf {
        let mut name = self.live.clone().into_os_string();
        name.push(ending);
        name.into()
    }

    /// logrotate with `create`, `compress` and `delaycompress`.
    fn rotate(&self) {
        let (former, packed) = (self.name(".1"), self.name(".1.gz"));
        if former.exists() {
            compress(&former, &packed);
        }
        for number in (1..4).rev() {
            let older = self.name(&format!(".{}.gz", number + 1));
            let _not_yet = fs::rename(self.name(&format!(".{number}.gz")), older);
        }
        // File systems' clocks have steps: the next file is to be younger.
        std::thread::sleep(Duration::from_millis(20));
        fs::rename(&self.live, former).unwrap();
        append(&self.live, "");
    }

    fn reopen(&mut self) {
        self.file = File::options().append(true).open(&self.live).unwrap();
    }
}

/// Writes some lines more; then everything that the program wrote is there, once and in order.
fn goes_on_in_order(world: &World, agent: Agent, mut program: Program) {
    program.write(20);
    world.wait_for(program.written);
    // Nothing more comes.
    std::thread::sleep(TOLD);
    assert_eq!(agent.stop(), Some(0));
    let wanted: Vec<String> = (0..program.written).map(|n| format!("line {n}")).collect();
    let got: Vec<String> = world.records().iter().map(|it| body(it).to_owned()).collect();
    assert!(got == wanted, "{got:?}\n{}", world.log());
    assert_eq!(world.audit().0, 0, "{:?}", world.audit());
}

/// Rotated as often while the agent looks at nothing, and on while it does.
fn rotated_before_its_first_look(world: &World, live: &Path, times: u32) {
    let agent = world.start();
    world.wait_for_first_look();
    agent.signal(Signal::STOP);
    let mut program = Program::start(live);
    for _ in 1..times {
        program.write(20);
        program.rotate();
        program.reopen();
    }
    program.write(20);
    program.rotate();
    program.write(10);
    agent.signal(Signal::CONT);
    std::thread::sleep(Duration::from_millis(700));
    program.write(10);
    std::thread::sleep(Duration::from_millis(300));
    program.reopen();
    program.write(20);
    std::thread::sleep(Duration::from_millis(700));
    program.rotate();
    program.reopen();
    goes_on_in_order(world, agent, program);
}

fn what_was_rotated_before_its_first_look_is_read_while_its_writer_has_it(world: World) {
    rotated_before_its_first_look(&world, &world.path("plain/app.log"), 1);
}

fn what_was_rotated_before_the_first_look_at_its_directory_is_read(mut world: World) {
    world.files = format!("    - paths: [\"{}/plain/*/*/app.log\"]\n", world.dir.path().display());
    rotated_before_its_first_look(&world, &world.path("plain/a/b/app.log"), 1);
}

fn what_was_rotated_again_before_its_first_look_is_read(world: World) {
    rotated_before_its_first_look(&world, &world.path("plain/app.log"), 3);
}

/// The log appeared, and was rotated three times, after a kill.
fn rotated_while_down(world: &World, live: &Path) {
    fs::create_dir(world.path("plain/other")).unwrap();
    append(&world.path("plain/other/app.log"), "other\n");
    let agent = world.start();
    world.wait_for(1);
    std::thread::sleep(Duration::from_millis(300));
    agent.kill();
    std::thread::sleep(Duration::from_millis(20));
    let mut program = Program::start(live);
    for _ in 0..3 {
        program.write(20);
        program.rotate();
        program.reopen();
    }
    program.write(20);
    let agent = world.start();
    program.write(20);
    world.wait_for(1 + program.written);
    std::thread::sleep(TOLD);
    assert_eq!(agent.stop(), Some(0));
    let wanted: Vec<String> = (0..program.written).map(|n| format!("line {n}")).collect();
    let records = world.records();
    let got: Vec<&str> = records.iter().map(body).filter(|it| it.starts_with("line")).collect();
    assert_eq!(records.len(), 1 + program.written);
    assert!(got == wanted, "{got:?}\n{}", world.log());
    assert_eq!(world.audit().0, 0, "{:?}", world.audit());
}

fn what_was_rotated_while_no_agent_ran_is_read(mut world: World) {
    world.files = format!("    - paths: [\"{}/plain/other/*.log\"]\n", world.dir.path().display());
    rotated_while_down(&world, &world.path("plain/other/new.log"));
}

fn what_was_rotated_in_a_new_directory_while_no_agent_ran_is_read(mut world: World) {
    world.files = format!("    - paths: [\"{}/plain/*/app.log\"]\n", world.dir.path().display());
    rotated_while_down(&world, &world.path("plain/new/app.log"));
}

/// It was there before the first agent looked.
fn what_was_left_alone_is_left_alone_after_a_restart(world: World) {
    let mut program = Program::start(&world.path("plain/app.log"));
    program.write(20);
    std::thread::sleep(Duration::from_millis(20));
    append(&program.name(".1"), "nobody asked\n");
    compress(&program.name(".1"), &program.name(".2.gz"));
    append(&program.name(".1"), "nobody asked\n");
    std::thread::sleep(Duration::from_millis(20));
    let agent = world.start();
    world.wait_for(program.written);
    agent.kill();
    let agent = world.start();
    goes_on_in_order(&world, agent, program);
}

/// Also where its log begins, and is rotated, later.
fn what_lay_there_before_the_live_file_is_left_alone(world: World) {
    let mut program = Program::start(&world.path("plain/app.log"));
    fs::remove_file(&program.live).unwrap();
    append(&program.name(".1"), "nobody asked\n");
    append(&program.name(".2"), "nobody asked\n");
    compress(&program.name(".2"), &program.name(".2.gz"));
    let agent = world.start();
    world.wait_for_first_look();
    append(&program.live, "");
    program.reopen();
    program.write(20);
    world.wait_for(program.written);
    compress(&program.name(".1"), &program.name(".3.gz"));
    program.rotate();
    goes_on_in_order(&world, agent, program);
}

/// It was made after the agent's first look, but not where the agent looked.
fn what_comes_with_an_older_directory_is_left_alone(mut world: World) {
    world.files = format!("    - paths: [\"{}/plain/*/app.log\"]\n", world.dir.path().display());
    let live = world.path("elsewhere/app.log");
    std::thread::sleep(Duration::from_millis(20));
    fs::create_dir(world.path("elsewhere")).unwrap();
    std::thread::sleep(Duration::from_millis(20));
    let agent = world.start();
    world.wait_for_first_look();
    append(&world.path("elsewhere/app.log.1"), "nobody asked\n");
    std::thread::sleep(Duration::from_millis(20));
    let mut program = Program::start(&live);
    program.write(20);
    fs::rename(world.path("elsewhere"), world.path("plain/a")).unwrap();
    program.live = world.path("plain/a/app.log");
    world.wait_for(program.written);
    program.rotate();
    program.reopen();
    goes_on_in_order(&world, agent, program);
}

/// Its directory was looked at for others all the time.
fn what_was_made_before_its_log_was_configured_is_left_alone(mut world: World) {
    append(&world.path("plain/other.log"), "other\n");
    let agent = world.start();
    world.wait_for(1);
    append(&world.path("plain/app.out.1"), "nobody asked\n");
    std::thread::sleep(Duration::from_millis(20));
    let mut program = Program::start(&world.path("plain/app.out"));
    program.write(20);
    world.files += &format!("    - paths: [\"{}/plain/*.out\"]\n", world.dir.path().display());
    world.write_config();
    agent.signal(Signal::HUP);
    world.wait_for(1 + program.written);
    std::thread::sleep(TOLD);
    assert_eq!(agent.stop(), Some(0));
    let got: Vec<String> = world.records().iter().map(|it| body(it).to_owned()).collect();
    assert!(!got.iter().any(|line| line == "nobody asked"), "{got:?}\n{}", world.log());
    assert_eq!(got.len(), 1 + program.written);
}
