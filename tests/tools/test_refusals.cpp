#include "support/catch.hpp"

#include "run_program.hpp"

#include <filesystem>
#include <limits>
#include <string>
#include <vector>

using namespace seqpar_test;

namespace {

/// What is refused leaves nothing behind, prints nothing on standard output, and says why in one line.
void must_refuse(const directory& in, const std::string& arguments, const std::vector<std::string>& parts) {
    const auto before = in.names();
    const outcome r = run_program(in, arguments);
    INFO("seqpar " << arguments << "\nstdout: " << r.out << "\nstderr: " << r.err);
    CHECK(r.status == 2);
    CHECK(r.out.empty());
    CHECK(r.err.substr(0, 8) == "seqpar: ");
    CHECK(r.err.find('\n') == r.err.size() - 1);
    for (const std::string& part : parts) {
        INFO("expected: " << part);
        CHECK(contains(r.err, part));
    }
    CHECK(in.names() == before);
}

} // namespace

TEST_CASE("a malformed command line is refused with what was seen and what is allowed") {
    const directory d;
    inputs(1, 9, 9, 4, 2, 8, 8).write(d);
    const std::string attend = "attend q.npy k.npy v.npy -o o.npy ";

    must_refuse(d, "frobnicate", {"'frobnicate'", "embed, attend, verify, compare"});
    must_refuse(d, "attnd q.npy k.npy v.npy", {"attnd", "nearest is attend"});
    must_refuse(d, "attend q.npy k.npy v.npy", {"out is required"});
    must_refuse(d, "attend q.npy k.npy -o o.npy", {"V is required"});
    must_refuse(d, attend + "extra", {"'extra' is one argument too many"});
    must_refuse(d, attend + "--stratgy ring", {"'--stratgy'", "nearest is --strategy"});
    must_refuse(d, attend + "--rank=2", {"'--rank=2'", "nearest is --ranks"});
    must_refuse(d, attend + "--ranks", {"--ranks"});
    must_refuse(d, attend + "--ranks 2 --ranks 3 --strategy ring", {"--ranks"});
    must_refuse(d, attend + "--ranks 0", {"--ranks 0", "1 to 1024", "nearest is 1"});
    must_refuse(d, attend + "--ranks -3", {"--ranks -3", "1 to 1024", "nearest is 1"});
    must_refuse(d, attend + "--ranks 1025", {"--ranks 1025", "1 to 1024", "nearest is 1024"});
    must_refuse(d, attend + "--ranks 99999999999999999999", {"1 to 1024", "nearest is 1024"});
    must_refuse(d, attend + "--ranks four", {"'four'", "1 to 1024"});
    must_refuse(d, attend + "--ranks 2.5", {"'2.5'"});
    must_refuse(d, attend + "--ranks ''", {"''"});
    must_refuse(d, attend + "--threads-per-rank 0", {"--threads-per-rank 0", "1 to 1024"});
    must_refuse(d, attend + "--layout zigzak", {"'zigzak'", "contiguous, zigzag, striped", "nearest is zigzag"});
    must_refuse(d, attend + "--kernel flsh", {"'flsh'", "flash, reference", "nearest is flash"});
    must_refuse(d, attend + "--format bsdh", {"'bsdh'", "bshd, bhsd"});
    must_refuse(d, attend + "--align left", {"'left'", "top-left, bottom-right"});
    must_refuse(d, attend + "--align top-left --q-offset 3", {"--align top-left", "--q-offset 3"});
    must_refuse(d, attend + "--q-offset x", {"--q-offset 'x'"});
    must_refuse(d, attend + "--window 3", {"--window '3'", "L,R"});
    must_refuse(d, attend + "--window 3,", {"--window '3,'"});
    must_refuse(d, attend + "--window 3,4,5", {"--window '3,4,5'"});
    must_refuse(d, attend + "--window -2,4", {"-2", "-1 to"});
    must_refuse(d, attend + "--window a,b", {"'a'"});
    must_refuse(d, attend + "--scale nan", {"--scale nan", "finite"});
    must_refuse(d, attend + "--scale inf", {"--scale inf", "finite"});
    must_refuse(d, attend + "--scale -inf", {"--scale -inf", "finite"});
    must_refuse(d, attend + "--scale 1e999", {"--scale 1e999", "finite"});
    must_refuse(d, attend + "--scale small", {"'small'"});
    must_refuse(d, "compare q.npy k.npy v.npy -o o.npy", {"unknown option '-o'", "seqpar compare --help"});
}

TEST_CASE("a program without a command shows its help and says that it was no use") {
    const directory d;
    const outcome r = run_program(d, "");
    CHECK(r.status == 2);
    CHECK(contains(r.err, "Usage: seqpar"));
    for (const char* command : {"embed", "attend", "verify", "compare"}) CHECK(contains(r.err, command));

    for (const char* asked : {"--help", "attend --help", "embed -h", "compare --help", "verify --help"}) {
        const outcome help = run_program(d, asked);
        CHECK(help.status == 0);
        CHECK(contains(help.out, "Usage: seqpar"));
        CHECK(help.err.empty());
    }
    const outcome version = run_program(d, "--version");
    CHECK(version.status == 0);
    CHECK(contains(version.out, "seqpar 0."));
}

TEST_CASE("a strategy that is none, or cannot be held, is refused") {
    const directory d;
    inputs(1, 9, 9, 4, 2, 8, 8).write(d);
    const std::string four = "attend q.npy k.npy v.npy -o o.npy --ranks 4 --strategy ";

    must_refuse(d, four + "rnig", {"'rnig'", "serial, ulysses, all-gather, ring", "nearest is ring"});
    must_refuse(d, four + "all_gather", {"'all_gather'", "nearest is all-gather"});
    must_refuse(d, four + "''", {"lacks a name", "serial, ulysses, all-gather, ring"});
    must_refuse(d, four + "ring/ulysses", {"ring holds no inner strategy", "ulysses:2/ring"});
    must_refuse(d, four + "serial/ring", {"serial holds no inner strategy"});
    must_refuse(d, four + "ulysses:2/all-gather/ring", {"all-gather holds no inner strategy"});
    must_refuse(d, four + "ulysses:2/", {"'ulysses:2/' lacks a name"});
    must_refuse(d, four + "ulysses:2/rong", {"'rong'", "nearest is ring"});
    must_refuse(d, four + "ring:2", {"ring takes bidirectional", "'2'"});
    must_refuse(d, four + "ulysses:x/ring", {"degree", "'x'"});
    must_refuse(d, four + "ulysses:0/ring", {"degree 0", "1 to 1024"});
    must_refuse(d, four + "ulysses:3/ring", {"degree 3", "4 ranks", "1, 2, 4"});
    must_refuse(d, four + "ulysses:8", {"degree 8", "4 ranks", "1, 2, 4"});
    must_refuse(d, four + "ulysses:2", {"2 to serial"});
    must_refuse(d, four + "all-gather:2", {"stream=1", "'2'"});
    must_refuse(d, four + "all-gather:stream=0", {"stream 0"});
    must_refuse(d, four + "serial", {"1 rank", "4", "ring"});
    must_refuse(d, "attend q.npy k.npy v.npy -o o.npy --ranks 4", {"serial", "4"});
    must_refuse(d, "compare q.npy k.npy v.npy --ranks 4 --strategy ring,ulysses:3", {"degree 3", "1, 2, 4"});
}

TEST_CASE("bytes beyond 2^32 are counted to the last one") {
    const directory d;
    inputs(1, 9, 9, 4, 2, 8, 8).write(d);
    const std::string start = npy_start(dictionary_of("<f4", false, {1, (std::size_t{1} << 31) + 3, 1, 1}));
    write_bytes(d / "long.npy", start);
    std::filesystem::resize_file(d / "long.npy", start.size() + 8589934604 - 1); // sparse: no disk is taken
    must_refuse(d, "attend long.npy k.npy v.npy -o o.npy",
                {"takes 8589934604 bytes, and 8589934603 are there: the file is cut off"});
    std::filesystem::resize_file(d / "long.npy", start.size() + 8589934604 + 1);
    must_refuse(d, "attend long.npy k.npy v.npy -o o.npy", {"8589934605 are there: the file is too long"});
}

TEST_CASE("a file that is no array of the right kind is refused with its path") {
    const directory d;
    const inputs in(1, 9, 9, 4, 2, 8, 8);
    in.write(d);
    const auto refuse_q = [&](const std::string& bytes, const std::vector<std::string>& parts) {
        write_bytes(d / "bad.npy", bytes);
        for (const char* command : {"attend bad.npy k.npy v.npy -o o.npy", "compare bad.npy k.npy v.npy"}) {
            std::vector<std::string> all = parts;
            all.emplace_back("bad.npy: ");
            must_refuse(d, command, all);
        }
    };
    const std::string good = npy_bytes(in.q);
    const auto of = [](const std::string& dictionary) { return npy_start(dictionary) + std::string(1152, 'x'); };

    refuse_q("", {"empty"});
    refuse_q("\x93NUM", {"no .npy file"});
    refuse_q("hello, this is a text and no array", {"no .npy file"});
    refuse_q(good.substr(0, 8), {"cut off within its header"});
    refuse_q(good.substr(0, 40), {"cut off within its header"});
    refuse_q(good.substr(0, good.size() - 1), {"(1, 9, 4, 8, )", "1152 bytes", "1151 are there", "cut off"});
    refuse_q(good + "x", {"1153 are there", "too long"});
    refuse_q(of("no dictionary"), {"header is malformed"});
    refuse_q(of("{'descr': '<f4', 'shape': (1, 9, 4, 8), }"), {"header is malformed"});
    refuse_q(of(dictionary_of("<i4", false, {1, 9, 4, 8})), {"'<i4'", "<f4", "<f8"});
    refuse_q(of(dictionary_of(">f4", false, {1, 9, 4, 8})), {"'>f4'", "big-endian"});
    refuse_q(of(dictionary_of("<f2", false, {1, 9, 4, 8})), {"'<f2'"});
    refuse_q(of(dictionary_of("<f4", false, {9, 4, 8})), {"3 extents", "4 are needed"});
    refuse_q(of(dictionary_of("<f4", false, {1, 1, 9, 4, 8})), {"5 extents", "4 are needed"});
    refuse_q(of("{'descr': '<f4', 'fortran_order': False, 'shape': (1, -9, 4, 8), }"), {"-9", "negative"});
    refuse_q(of("{'descr': '<f4', 'fortran_order': False, 'shape': (1, 99999999999999999999, 4, 8), }"), {"too large"});
    refuse_q(of("{'descr': '<f4', 'fortran_order': False, 'shape': (1, nine, 4, 8), }"), {"malformed"});
    refuse_q(of(dictionary_of("<f4", false, {1, 1099511627776, 4, 8})), {"140737488355328 bytes", "1152 are there"});
    refuse_q(of(dictionary_of("<f4", false, {1, 1UL << 40, 1UL << 20, 8})), {"more bytes than can be counted"});
    refuse_q(of(dictionary_of("<f4", false, {0, 1UL << 62, 1UL << 62, 8})), {"more bytes than can be counted"});
    refuse_q(of("{'shape': (1, 9, 4, 8), 'fortran_order': False, 'descr': '<f4', }"), {"malformed", "in this order"});
    // what follows would be the last extent to another reader
    refuse_q(of("{'descr': '<f4', 'fortran_order': False, 'shape': (1, 9, 4, 8), 'x': (0)}"), {"and nothing else"});
    std::string newer = good;
    newer[6] = 3;
    refuse_q(newer, {"version 3.0"});

    must_refuse(d, "attend none.npy k.npy v.npy -o o.npy", {"none.npy: there is no such file"});
    must_refuse(d, "attend q.npy k.npy . -o o.npy", {".: ", "directory"});
    must_refuse(d, "verify q.npy /dev/null v.npy", {"/dev/null: "});
}

TEST_CASE("inputs that do not belong together are refused") {
    const directory d;
    inputs(2, 9, 9, 4, 2, 8, 8).write(d);
    array wide = random_array({2, 9, 2, 8}, 4);
    wide.type = "<f8";
    write_npy(d / "double.npy", wide);
    write_npy(d / "batch.npy", random_array({1, 9, 2, 8}, 4));
    write_npy(d / "dim.npy", random_array({2, 9, 2, 6}, 4));
    write_npy(d / "seq.npy", random_array({2, 7, 2, 8}, 4));
    write_npy(d / "three.npy", random_array({2, 9, 3, 8}, 4));
    write_npy(d / "none.npy", random_array({2, 9, 0, 8}, 4));
    write_npy(d / "flat.npy", random_array({2, 9, 2, 0}, 4));
    for (const std::string command : {"attend -o o.npy", "verify --ranks 3 --strategy ring", "compare --ranks 2"}) {
        must_refuse(d, command + " q.npy double.npy v.npy", {"double.npy is float64", "q.npy is float32"});
        must_refuse(d, command + " q.npy batch.npy v.npy", {"batch of Q is 2 and of K is 1"});
        must_refuse(d, command + " q.npy k.npy batch.npy", {"batch of Q is 2 and of V is 1"});
        must_refuse(d, command + " q.npy dim.npy v.npy", {"head_dim of Q is 8 and of K is 6"});
        must_refuse(d, command + " q.npy k.npy seq.npy", {"seq of K is 9 and of V is 7"});
        must_refuse(d, command + " q.npy k.npy three.npy", {"heads of K is 2 and of V is 3"});
        must_refuse(d, command + " q.npy three.npy three.npy", {"heads is 4 and kv_heads is 3", "multiple"});
        must_refuse(d, command + " q.npy none.npy none.npy", {"kv_heads is 0"});
        must_refuse(d, command + " q.npy k.npy flat.npy", {"head_dim", "0 for V"});
    }
}

TEST_CASE("an output that cannot be written is refused before anything is computed") {
    const directory d;
    inputs(1, 9, 9, 4, 2, 8, 8).write(d);
    const std::string attend = "attend q.npy k.npy v.npy -o ";
    must_refuse(d, attend + "nowhere/o.npy", {"nowhere/o.npy: cannot be written", "no directory"});
    must_refuse(d, attend + ".", {".: cannot be written", "directory"});
    must_refuse(d, attend + "/dev/full", {"/dev/full: cannot be written"});
    must_refuse(d, attend + "/proc/o.npy", {"/proc/o.npy: cannot be written"});
    must_refuse(d, attend + "''", {"empty"});
    must_refuse(d, attend + "o.npy --lse nowhere/l.npy", {"nowhere/l.npy: cannot be written"});
    must_refuse(d, attend + "o.npy --lse ./o.npy", {"name the same file"});
    must_refuse(d, "compare q.npy k.npy v.npy --json nowhere/t.json", {"nowhere/t.json: cannot be written"});
    // a disk that is full: no more than 1 KiB may be written
    const outcome full = run_command(d, "(ulimit -f 1; trap '' XFSZ; '" + program + "' " + attend + "o.npy)");
    CHECK(full.status == 2);
    CHECK(contains(full.err, "o.npy: cannot be written"));
    CHECK(d.names() == std::set<std::string>{"q.npy", "k.npy", "v.npy"});
}

TEST_CASE("embed refuses what it cannot embed") {
    const directory d;
    write_bytes(d / "text", "some text to embed");
    const std::string sizes = " -o out --heads 4 --head-dim 8";
    must_refuse(d, "embed none" + sizes, {"none: there is no such file"});
    must_refuse(d, "embed ." + sizes, {"directory"});
    must_refuse(d, "embed text -o out --head-dim 8", {"--heads is required"});
    must_refuse(d, "embed text -o text --heads 4 --head-dim 8", {"text: cannot be a directory"});
    must_refuse(d, "embed text -o out --heads 0 --head-dim 8", {"--heads 0", "nearest is 1"});
    must_refuse(d, "embed text -o out --heads 4 --head-dim eight", {"'eight'"});
    must_refuse(d, "embed text --kv-heads 3" + sizes,
                {"--heads 4", "--kv-heads 3", "nearest that fits is --kv-heads 2"});
    must_refuse(d, "embed text --max-tokens -1" + sizes, {"--max-tokens", "-1"});
    must_refuse(d, "embed text --seed x" + sizes, {"'x'"});
}
