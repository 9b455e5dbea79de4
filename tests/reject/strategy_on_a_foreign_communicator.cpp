// MUST NOT COMPILE: this strategy cannot run on this communicator
#include <seqpar/seqpar.hpp>

int main() {
    seqpar::attention<seqpar::any_strategy<seqpar::thread_communicator>, seqpar::self_communicator>* attend = nullptr;
    attend->forward(0, 0, 0);
}
