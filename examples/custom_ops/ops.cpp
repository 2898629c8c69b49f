// Four ops that a team might have in C++, registered with TORCH_LIBRARY: kernels for the CPU, and fake kernels where only shapes are
// needed.

#include <cmath>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include <ATen/ATen.h>
#include <torch/library.h>

namespace {

using at::Tensor;

// x * weight / sqrt(mean(x^2) + eps) over the last dim, in one pass, accumulated in float.
Tensor rms_norm(const Tensor& x, const Tensor& weight, double eps, std::optional<at::ScalarType> dtype) {
  auto wide = x.to(at::kFloat).contiguous();
  auto scale = weight.to(at::kFloat).contiguous();
  auto result = at::empty_like(wide);
  const int64_t width = x.size(-1), rows = width ? wide.numel() / width : 0;
  const float *in = wide.const_data_ptr<float>(), *by = scale.const_data_ptr<float>();
  float* out = result.mutable_data_ptr<float>();
  for (int64_t row = 0; row < rows; ++row, in += width, out += width) {
    float squares = 0;
    for (int64_t i = 0; i < width; ++i) squares += in[i] * in[i];
    const float factor = 1 / std::sqrt(squares / width + static_cast<float>(eps));
    for (int64_t i = 0; i < width; ++i) out[i] = in[i] * factor * by[i];
  }
  return result.to(dtype.value_or(x.scalar_type()));
}

Tensor rms_norm_meta(const Tensor& x, const Tensor&, double, std::optional<at::ScalarType> dtype) {
  return at::empty_symint(x.sym_sizes(), x.options().dtype(dtype.value_or(x.scalar_type())));
}

// The rows of every table at `indices`, added up or multiplied, plus the bias: [..., width].
Tensor gather_rows(const std::vector<Tensor>& tables, const Tensor& indices, const std::optional<Tensor>& bias, std::string mode) {
  TORCH_CHECK(!tables.empty(), "gather_rows needs a table");
  TORCH_CHECK(mode == "sum" || mode == "product", "mode is 'sum' or 'product', not '", mode, "'");
  auto result = at::embedding(tables[0], indices);
  for (size_t i = 1; i < tables.size(); ++i) {
    auto rows = at::embedding(tables[i], indices);
    result = mode == "sum" ? result + rows : result * rows;
  }
  return bias ? result + *bias : result;
}

Tensor gather_rows_meta(const std::vector<Tensor>& tables, const Tensor& indices, const std::optional<Tensor>&, std::string) {
  auto sizes = indices.sym_sizes().vec();
  sizes.push_back(tables.at(0).sym_size(1));
  return at::empty_symint(sizes, tables[0].options());
}

// The rows that the mask keeps, and where they were: as many as the mask has ones. Its fake kernel is in fakes.py.
std::tuple<Tensor, Tensor> keep_rows(const Tensor& rows, const Tensor& mask) {
  auto places = at::nonzero(mask).squeeze(1);
  return {rows.index_select(0, places), places};
}

// x[i] *= factors[i], in place.
void scale_rows_(Tensor& x, const Tensor& factors) {
  std::vector<int64_t> shape(x.dim(), 1);
  shape[0] = factors.size(0);
  x.mul_(factors.view(shape));
}

void scale_rows_meta(Tensor&, const Tensor&) {}

}  // namespace

TORCH_LIBRARY(fused, m) {
  m.def("rms_norm(Tensor x, Tensor weight, float eps=1e-6, *, ScalarType? dtype=None) -> Tensor");
  m.def("gather_rows(Tensor[] tables, Tensor indices, Tensor? bias=None, str mode='sum') -> Tensor");
  m.def("keep_rows(Tensor rows, Tensor mask) -> (Tensor, Tensor)");
  m.def("scale_rows_(Tensor(a!) x, Tensor factors) -> ()");
}

TORCH_LIBRARY_IMPL(fused, CPU, m) {
  m.impl("rms_norm", rms_norm);
  m.impl("gather_rows", gather_rows);
  m.impl("keep_rows", keep_rows);
  m.impl("scale_rows_", scale_rows_);
}

TORCH_LIBRARY_IMPL(fused, Meta, m) {
#ifndef NORM_IN_PYTHON  // fake_norm.py has it then
  m.impl("rms_norm", rms_norm_meta);
#endif
  m.impl("gather_rows", gather_rows_meta);
  m.impl("scale_rows_", scale_rows_meta);
}
