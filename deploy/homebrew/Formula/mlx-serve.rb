# For a tap of one's own. It cannot go into homebrew-core as it is: MLX is published as wheels alone,
# so there is nothing that resource blocks could build. requirements.lock in the source archive takes
# their place: every package with its hashes.
#
# `scripts/release` fills in url and sha256.
class MlxServe < Formula
  desc "Local inference server: embeddings, reranking, tokenizing and chat"
  homepage "https://github.com/OWNER/mlx-serve"
  url "https://github.com/OWNER/mlx-serve/releases/download/v0.1.0/mlx_serve_gateway-0.1.0.tar.gz"
  sha256 "0000000000000000000000000000000000000000000000000000000000000000"
  license "MIT"

  depends_on "uv" => :build
  depends_on arch: :arm64
  depends_on macos: :sonoma
  depends_on "python@3.13"

  # Wheels have no room in their headers for the longer names that Homebrew would write there.
  preserve_rpath

  # The wheels are fetched while it is installed.
  allow_network_access! :build

  def install
    ENV["UV_PYTHON_DOWNLOADS"] = "never"
    # By opt_bin: the path in the Cellar ends with the next patch release of Python.
    system "uv", "venv", "--python", Formula["python@3.13"].opt_bin/"python3.13", libexec
    install_args = ["pip", "install", "--python", libexec/"bin/python", "--no-deps"]
    system "uv", *install_args, "--require-hashes", "--only-binary", ":all:", "-r", "requirements.lock"
    system "uv", *install_args, "--no-build-isolation", "."

    %w[mlx-serve mlx-serve-ctl mlx-llm-server].each do |command|
      bin.install_symlink libexec/"bin"/command
      generate_completions_from_executable(bin/command, shell_parameter_format: :click)
    end
  end

  service do
    run [opt_bin/"mlx-serve", "start", "--foreground", "--log-file=#{var}/log/mlx-serve.log"]
    keep_alive successful_exit: false
    throttle_interval 5
    # Without it launchd holds back the CPU and the disk of what no person looks at.
    process_type :interactive
    environment_variables PATH: std_service_path_env
    log_path var/"log/mlx-serve.log"
    error_log_path var/"log/mlx-serve.log"
  end

  test do
    ENV["MLX_SERVE_HOME"] = testpath/"home"
    ENV["MLX_SERVE_PORT"] = free_port.to_s
    assert_match version.to_s, shell_output("#{bin}/mlx-serve --version")
    system libexec/"bin/python", "-c", "import mlx.core, tokenizers, zmq"
    checks = JSON.parse(shell_output("#{bin}/mlx-serve doctor --offline --json"))
    refute_equal "fail", checks["state"]
    assert_match %r{^home = .*/opt/python@3\.13/}, (libexec/"pyvenv.cfg").read
  end
end
