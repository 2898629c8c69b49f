// An XLA FFI handler that runs any op of PyTorch's dispatcher on the buffers XLA hands it.
//
// The call's attributes say which op, and where each argument of its schema comes from (lowering/custom/encoding.py writes them):
//   op = "ns::name", overload = "", arguments = {x = {position = 0, operand = 0}, eps = {position = 1, value = 1.0e-5}, ...}

#include <algorithm>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

// Not ATen/ATen.h, which declares every op: it takes half as long again to compile.
#include <ATen/core/Tensor.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/scalar_tensor.h>

#include "xla/ffi/api/ffi.h"

namespace ffi = xla::ffi;

namespace {

// What is wrong with a call, said with the op's name by the handler.
struct Wrong : std::runtime_error {
  using std::runtime_error::runtime_error;
};

at::ScalarType scalar_type_of(ffi::DataType type) {
  switch (type) {
    case ffi::DataType::PRED: return at::kBool;
    case ffi::DataType::U8: return at::kByte;
    case ffi::DataType::S8: return at::kChar;
    case ffi::DataType::S16: return at::kShort;
    case ffi::DataType::S32: return at::kInt;
    case ffi::DataType::S64: return at::kLong;
    case ffi::DataType::F16: return at::kHalf;
    case ffi::DataType::BF16: return at::kBFloat16;
    case ffi::DataType::F32: return at::kFloat;
    case ffi::DataType::F64: return at::kDouble;
    case ffi::DataType::C64: return at::kComplexFloat;
    case ffi::DataType::C128: return at::kComplexDouble;
    case ffi::DataType::F8E5M2: return at::kFloat8_e5m2;
    case ffi::DataType::F8E4M3FN: return at::kFloat8_e4m3fn;
    default: throw Wrong("a buffer has a dtype that PyTorch lacks");
  }
}

// A tensor on the buffer's own memory.
at::Tensor tensor_on(const ffi::AnyBuffer& buffer) {
  std::vector<int64_t> sizes(buffer.dimensions().begin(), buffer.dimensions().end());
  return at::from_blob(buffer.untyped_data(), sizes, at::TensorOptions().dtype(scalar_type_of(buffer.element_type())));
}

template <typename T>
T needed(const ffi::Dictionary& attributes, std::string_view name) {
  auto found = attributes.get<T>(name);
  if (!found.has_value()) throw Wrong("attribute '" + std::string(name) + "': " + std::string(found.error().message()));
  return *found;
}

template <typename T>
std::vector<T> elements(const ffi::Dictionary& source) {
  auto span = needed<ffi::Span<const T>>(source, "value");
  return std::vector<T>(span.begin(), span.end());
}

const std::unordered_map<std::string, at::ScalarType>& dtypes() {
  static const std::unordered_map<std::string, at::ScalarType> table = {
      {"uint8", at::kByte}, {"int8", at::kChar}, {"int16", at::kShort}, {"int32", at::kInt}, {"int64", at::kLong},
      {"float16", at::kHalf}, {"float32", at::kFloat}, {"float64", at::kDouble}, {"bfloat16", at::kBFloat16}, {"bool", at::kBool},
      {"complex64", at::kComplexFloat}, {"complex128", at::kComplexDouble},
      {"float8_e5m2", at::kFloat8_e5m2}, {"float8_e4m3fn", at::kFloat8_e4m3fn}};
  return table;
}

class Call {
 public:
  Call(const ffi::RemainingArgs& operands, const c10::FunctionSchema& schema) : operands_(operands), schema_(schema) {}

  c10::IValue argument(size_t position, const ffi::Dictionary& arguments) {
    const auto& formal = schema_.arguments()[position];
    auto source = needed<ffi::Dictionary>(arguments, formal.name());
    auto value = from(source, *formal.real_type());
    if (formal.alias_info() && formal.alias_info()->isWrite()) value = own(value);
    return value;
  }

  // New values of the arguments that the op writes, in the schema's order; what it returns comes before them.
  const std::vector<at::Tensor>& written() const { return written_; }

 private:
  at::Tensor tensor(int64_t number) const {
    auto buffer = operands_.get<ffi::AnyBuffer>(static_cast<size_t>(number));
    if (!buffer.has_value()) throw Wrong("operand " + std::to_string(number) + " is missing");
    return tensor_on(*buffer);
  }

  c10::IValue from(const ffi::Dictionary& source, const c10::Type& type) {
    if (source.contains("none")) return c10::IValue();
    if (auto optional = type.cast<c10::OptionalType>()) return from(source, *optional->getElementType());
    if (auto list = type.cast<c10::ListType>()) return from_list(source, list->getElementType());
    if (source.contains("operand")) return scalar_or_tensor(tensor(needed<int64_t>(source, "operand")), type);
    switch (type.kind()) {
      case c10::TypeKind::StringType: return std::string(needed<std::string_view>(source, "value"));
      case c10::TypeKind::BoolType: return needed<bool>(source, "value");
      case c10::TypeKind::FloatType: return needed<double>(source, "value");
      case c10::TypeKind::ScalarTypeType: return dtypes().at(std::string(needed<std::string_view>(source, "value")));
      case c10::TypeKind::DeviceObjType: return c10::Device(std::string(needed<std::string_view>(source, "value")));
      case c10::TypeKind::NumberType: return number(source);
      default: return needed<int64_t>(source, "value");  // int, SymInt, Layout, MemoryFormat
    }
  }

  static c10::IValue number(const ffi::Dictionary& source) {
    if (auto flag = source.get<bool>("value"); flag.has_value()) return at::Scalar(*flag);
    if (auto whole = source.get<int64_t>("value"); whole.has_value()) return at::Scalar(*whole);
    return at::Scalar(needed<double>(source, "value"));
  }

  static c10::IValue scalar_or_tensor(const at::Tensor& given, const c10::Type& type) {
    switch (type.kind()) {
      case c10::TypeKind::TensorType: return given;
      case c10::TypeKind::FloatType: return given.item().toDouble();
      case c10::TypeKind::BoolType: return given.item().toBool();
      case c10::TypeKind::NumberType: return given.item();
      default: return given.item().toLong();
    }
  }

  c10::IValue from_list(const ffi::Dictionary& source, const c10::TypePtr& element) {
    if (source.contains("operands")) {
      c10::impl::GenericList list(element->kind() == c10::TypeKind::SymIntType ? c10::TypePtr(c10::IntType::get()) : element);
      for (int64_t number : needed<ffi::Span<const int64_t>>(source, "operands")) {
        auto kind = element->cast<c10::OptionalType>() ? element->castRaw<c10::OptionalType>()->getElementType() : element;
        list.push_back(number < 0 ? c10::IValue() : scalar_or_tensor(tensor(number), *kind));
      }
      return c10::IValue(list);
    }
    switch (element->kind()) {
      case c10::TypeKind::FloatType: return elements<double>(source);
      case c10::TypeKind::BoolType: {
        c10::List<bool> list;
        for (auto flag : elements<int64_t>(source)) list.push_back(flag != 0);
        return list;
      }
      case c10::TypeKind::StringType: {
        auto words = needed<ffi::Dictionary>(source, "value");
        std::vector<std::string> list;
        for (size_t i = 0; i < words.size(); ++i) list.emplace_back(needed<std::string_view>(words, std::to_string(i)));
        return list;
      }
      default: return elements<int64_t>(source);
    }
  }

  // XLA's operands are not the op's to write.
  c10::IValue own(const c10::IValue& value) {
    if (value.isTensor()) return written_.emplace_back(value.toTensor().clone());
    if (!value.isTensorList()) return value;
    c10::List<at::Tensor> list;
    for (const at::Tensor& tensor : value.toTensorVector()) list.push_back(written_.emplace_back(tensor.clone()));
    return list;
  }

  const ffi::RemainingArgs& operands_;
  const c10::FunctionSchema& schema_;
  std::vector<at::Tensor> written_;
};

void collect(const c10::IValue& value, std::vector<at::Tensor>& found) {
  if (value.isTensor()) {
    found.push_back(value.toTensor());
  } else if (value.isTensorList()) {
    for (const at::Tensor& tensor : value.toTensorVector()) found.push_back(tensor);
  } else if (value.isScalar()) {
    const auto dtype = value.isInt() ? at::kLong : value.isBool() ? at::kBool : at::kDouble;
    found.push_back(at::scalar_tensor(value.toScalar(), at::TensorOptions().dtype(dtype)));
  } else {
    throw Wrong("returns a " + value.tagKind() + ", which is no tensor");
  }
}

void give(const at::Tensor& computed, const ffi::AnyBuffer& buffer, size_t number) {
  auto target = tensor_on(buffer);
  if (computed.sizes() != target.sizes() || computed.scalar_type() != target.scalar_type()) {
    auto text = [](const at::Tensor& tensor) {
      std::string dims;
      for (auto size : tensor.sizes()) dims += (dims.empty() ? "" : ", ") + std::to_string(size);
      return std::string(c10::toString(tensor.scalar_type())) + "[" + dims + "]";
    };
    throw Wrong("result " + std::to_string(number) + " is " + text(computed) + ", its fake kernel promised " + text(target));
  }
  target.copy_(computed);
}

void run(const std::string& name, const ffi::RemainingArgs& operands, const ffi::RemainingRets& results,
         const ffi::Dictionary& attributes) {
  auto overload = needed<std::string_view>(attributes, "overload");
  auto op = c10::Dispatcher::singleton().findSchema({name, std::string(overload)});
  if (!op.has_value()) throw Wrong("is not registered in this process: its library is not loaded");
  auto arguments = needed<ffi::Dictionary>(attributes, "arguments");
  Call call(operands, op->schema());
  torch::jit::Stack stack;
  for (size_t position = 0; position < op->schema().arguments().size(); ++position) stack.push_back(call.argument(position, arguments));
  at::NoGradGuard no_grad;
  op->callBoxed(stack);
  std::vector<at::Tensor> found;
  for (const auto& value : stack) collect(value, found);
  found.insert(found.end(), call.written().begin(), call.written().end());
  if (found.size() != results.size()) {
    throw Wrong("gives " + std::to_string(found.size()) + " tensors, the call has " + std::to_string(results.size()) + " results");
  }
  for (size_t number = 0; number < found.size(); ++number) {
    auto result = results.get<ffi::AnyBuffer>(number);
    if (!result.has_value()) throw Wrong("result " + std::to_string(number) + " is missing");
    give(found[number], **result, number);
  }
}

ffi::Error handle(ffi::RemainingArgs operands, ffi::RemainingRets results, ffi::Dictionary attributes) {
  std::string name = "?";
  try {
    name = std::string(needed<std::string_view>(attributes, "op"));
    run(name, operands, results, attributes);
  } catch (const c10::Error& error) {
    return ffi::Error::Internal(name + ": " + error.what_without_backtrace());
  } catch (const std::exception& error) {
    return ffi::Error::Internal(name + ": " + error.what());
  }
  return ffi::Error::Success();
}

}  // namespace

extern "C" __attribute__((visibility("default"))) XLA_FFI_Error* shapeline_torch_op(XLA_FFI_CallFrame* frame) {
  static auto* handler = ffi::Ffi::Bind().RemainingArgs().RemainingRets().Attrs().To(handle).release();
  return handler->Call(frame);
}
