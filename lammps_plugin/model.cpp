// SPDX-License-Identifier: GPL-2.0-or-later
#include "model.h"

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/zeros.h>
#include <ATen/Parallel.h>
#include <c10/core/AutogradState.h>
#include <caffe2/serialize/inline_container.h>
#include <torch/csrc/api/include/torch/cuda.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/jit/api/module.h>
#include <torch/csrc/jit/runtime/graph_executor.h>
#include <torch/csrc/jit/serialization/import.h>
#include <torch/version.h>

#include <chrono>
#include <dlfcn.h>
#include <regex>
#include <sstream>
#include <stdexcept>

namespace tpcalc {
namespace {

[[noreturn]] void fail(const std::string &why) { throw std::runtime_error(why); }

std::string first_line(const std::string &text) {
  const auto start = text.find_first_not_of(" \n");
  if (start == std::string::npos) return "unknown error";
  return text.substr(start, text.find('\n', start) - start);
}

double now() {
  using namespace std::chrono;
  return duration<double>(steady_clock::now().time_since_epoch()).count();
}

std::string minor_version(const std::string &v) { return v.substr(0, v.find('.', v.find('.') + 1)); }

// Stands in for the ranks while the widths of the exchanged rows are measured.
class Probe : public HaloPeer {
 public:
  int64_t width = 0, count = 0;
  int64_t n_local() const override { return 1; }
  int64_t n_all() const override { return 1; }
  void to_ghosts(void *, int64_t w, bool) override {
    width = std::max(width, w);
    count++;
  }
  void from_ghosts(void *, int64_t, bool) override {}
};

// Reads the code of the archive as text, before anything of it is compiled or run: only torch's
// own operators that compute, and ops of tpcalc that are registered here, may be named.
void audit(caffe2::serialize::PyTorchStreamReader &archive) {
  static const std::regex custom("\\bops\\.([A-Za-z_0-9]+)\\.([A-Za-z_0-9]+)");
  static const std::regex writes("\\btorch\\.(save|load|from_file|_save|__import__)\\(");
  for (const auto &name : archive.getAllRecords()) {
    if (name.size() < 3 || name.substr(name.size() - 3) != ".py") continue;
    auto [data, size] = archive.getRecord(name);
    const std::string code(static_cast<const char *>(data.get()), size);
    std::smatch m;
    if (std::regex_search(code, m, writes)) fail("its code calls torch." + m[1].str());
    for (std::sregex_iterator i(code.begin(), code.end(), custom), end; i != end; ++i) {
      const std::string space = (*i)[1], op = (*i)[2];
      if (space == "prim" || space == "aten") continue;
      if (space != "tpcalc") fail("its code calls the foreign operator " + space + "::" + op);
      if (!c10::Dispatcher::singleton().findSchema({"tpcalc::" + op, ""}))
        fail("it needs the operator tpcalc::" + op + ", which this plugin does not carry; run "
             "`tpcalc build`, or export the file again with the installed tpcalc");
    }
  }
}

struct OneThreadAutograd {  // MPI is called inside the backward pass: it must stay on this thread
  bool old = c10::AutogradState::get_tls_state().get_multithreading_enabled();
  OneThreadAutograd() { c10::AutogradState::get_tls_state().set_multithreading_enabled(false); }
  ~OneThreadAutograd() { c10::AutogradState::get_tls_state().set_multithreading_enabled(old); }
};

struct Threads {
  int old = at::get_num_threads();
  explicit Threads(int n) {
    if (n != old) at::set_num_threads(n);
  }
  ~Threads() {
    if (at::get_num_threads() != old) at::set_num_threads(old);
  }
};

}  // namespace

struct Model::Torch {
  torch::jit::Module module;
  at::ScalarType dtype = at::kDouble;
  at::Device device = at::kCPU;
  at::Tensor energies, gradient;
  // TorchScript would profile and compile in its first three calls, and gain nothing on a CPU
  bool profiles() const { return device.is_cuda(); }
};

Model::Model(const std::string &bytes, const std::string &device, int cuda_index) : t(new Torch) {
  sha = sha256(bytes);
  std::istringstream in(bytes);
  try {
    caffe2::serialize::PyTorchStreamReader archive(&in);
    if (!archive.hasRecord("extra/manifest.json")) fail("it has no manifest.json");
    auto [data, size] = archive.getRecord("extra/manifest.json");
    manifest = parse_manifest(std::string(static_cast<const char *>(data.get()), size));
    audit(archive);
  } catch (const c10::Error &e) {
    fail("it is no whole TorchScript archive (" + first_line(e.what_without_backtrace()) + ")");
  }
  if (minor_version(manifest.torch) != minor_version(torch_version()))
    fail("it was exported with torch " + manifest.torch + " and this plugin was built for torch " +
         torch_version() + "; export it again with `tpcalc export`");
  if (device == "cuda") t->device = at::Device(at::kCUDA, (c10::DeviceIndex) cuda_index);
  device_name = t->device.str();
  t->dtype = manifest.dtype == "float32" ? at::kFloat : at::kDouble;
  try {
    in.clear();
    in.seekg(0);
    t->module = torch::jit::load(in, t->device);
    t->module.eval();
    Probe probe;
    HaloScope scope(&probe);
    const torch::jit::GraphOptimizerEnabledGuard plain(t->profiles());
    const auto long_ints = at::TensorOptions().dtype(at::kLong).device(t->device);
    t->module.forward({at::zeros({1}, long_ints), at::zeros({2, 0}, long_ints),
                       at::zeros({0, 3}, at::TensorOptions().dtype(t->dtype).device(t->device)),
                       (int64_t) 1});
    halo_width = probe.width;
    halo_count = probe.count;
  } catch (const std::exception &e) {
    fail("it cannot be loaded (" + first_line(e.what()) + ")");
  }
  if (manifest.num_layers > 1 && halo_count == 0)
    fail("it has " + std::to_string(manifest.num_layers) + " layers and exchanges no ghosts");
}

Model::~Model() = default;

void Model::evaluate(const Edges &edges, HaloPeer *peer, int threads) {
  HaloScope scope(peer);
  OneThreadAutograd one_thread;
  const torch::jit::GraphOptimizerEnabledGuard plain(t->profiles());
  Threads guard(threads);
  const double start = now();
  const auto n_all = (int64_t) edges.species.size(), n_edges = (int64_t) edges.size();
  const auto long_ints = at::TensorOptions().dtype(at::kLong);
  auto view = [&](const std::vector<int64_t> &v) {  // torch's from_blob wants a pointer to mutable
    return at::from_blob(const_cast<int64_t *>(v.data()), {(int64_t) v.size()}, long_ints);
  };
  auto species = view(edges.species).to(t->device);
  auto index = at::stack({view(edges.receivers), view(edges.senders)}).to(t->device);
  auto vectors = at::from_blob(const_cast<double *>(edges.vectors.data()), {n_edges, 3}, at::kDouble)
                     .to(t->device, t->dtype)
                     .detach();
  vectors.set_requires_grad(true);
  TORCH_CHECK(species.size(0) == n_all);
  const double packed = now();
  // on EVERY rank, also with zero atoms: the exchanges of all ranks must match
  auto energies = t->module.forward({species, index, vectors, edges.n_local}).toTensor();
  const double forwarded = now();
  auto g = torch::autograd::grad({energies.sum()}, {vectors}, {}, std::nullopt, false, true)[0];
  t->gradient = g.defined() ? g.to(at::kCPU, at::kDouble).contiguous()
                            : at::zeros({n_edges, 3}, at::kDouble);
  t->energies = energies.detach().to(at::kCPU, at::kDouble).contiguous();
  seconds.pack += packed - start;
  seconds.forward += forwarded - packed;
  seconds.backward += now() - forwarded;
  this->energies = t->energies.data_ptr<double>();
  gradient = t->gradient.data_ptr<double>();
}

std::string load_kernels(const std::string &library) {
  if (dlopen(library.c_str(), RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE)) return "";
  const char *why = dlerror();
  return why ? why : "unknown error";
}

std::string torch_version() { return TORCH_VERSION; }
int cuda_devices() { return (int) torch::cuda::device_count(); }

}  // namespace tpcalc
