// MUST NOT COMPILE: documents & documents: a row is in one document
#include <seqpar/score/causal.hpp>
#include <seqpar/score/documents.hpp>

int main() {
    const seqpar::documents outer{{0, 4, 9}}, inner{{0, 4, 6, 9}};
    (outer & seqpar::causal{} & inner).check();
}
