// Runs a deployable module in libtorch, without Python: MODULE INPUTS RESULTS, the last two as torch.save writes them.
#include <ATen/core/grad_mode.h>
#include <torch/csrc/jit/serialization/import.h>
#include <torch/csrc/jit/serialization/pickle.h>

#include <fstream>
#include <iostream>
#include <iterator>

int main(int count, char** words) {
  if (count != 4) {
    std::cerr << "usage: " << words[0] << " MODULE INPUTS RESULTS" << std::endl;
    return 2;
  }
  try {
    at::NoGradGuard guard;
    auto module = torch::jit::load(words[1]);
    std::ifstream given(words[2], std::ios::binary);
    std::vector<char> bytes((std::istreambuf_iterator<char>(given)), std::istreambuf_iterator<char>());
    auto arguments = torch::jit::pickle_load(bytes).toListRef().vec();
    auto results = torch::jit::pickle_save(module.forward(arguments));
    std::ofstream file(words[3], std::ios::binary);
    file.write(results.data(), results.size()).flush();
    return file.good() ? 0 : 1;
  } catch (const std::exception& error) {
    std::cerr << error.what() << std::endl;
    return 1;
  }
}
