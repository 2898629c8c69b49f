// Loads a deployable module and runs it on each pickled tuple of inputs: program MODULE IN OUT [IN OUT ...].
#include <torch/script.h>

#include <fstream>
#include <iterator>
#include <vector>

int main(int count, char** arguments) {
  torch::jit::Module module = torch::jit::load(arguments[1]);
  torch::NoGradGuard no_grad;
  for (int index = 2; index + 1 < count; index += 2) {
    std::ifstream in(arguments[index], std::ios::binary);
    std::vector<char> bytes((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
    auto inputs = torch::jit::pickle_load(bytes).toTuple()->elements().vec();
    std::vector<char> result = torch::jit::pickle_save(module.forward(inputs));
    std::ofstream(arguments[index + 1], std::ios::binary).write(result.data(), result.size());
  }
}
