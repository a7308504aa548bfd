# Loads a formula without Homebrew, and prints as JSON what it declares, what its `install` would run
# and what its service is. Everything that is not declared here is an error, as it would be there.
require "json"
require "pathname"

class Formula
  class << self
    attr_reader :said, :service_block, :test_block

    %i[desc homepage url sha256 license].each do |name|
      define_method(name) { |value| (@said ||= {})[name] = value }
    end

    def depends_on(what)
      ((@said ||= {})[:depends_on] ||= []) << (what.is_a?(Hash) ? what.to_a.flatten.map(&:to_s) : [what])
    end

    def preserve_rpath = @said[:preserve_rpath] = true
    def allow_network_access!(*phases) = @said[:network] = phases
    def service(&block) = @service_block = block
    def test(&block) = @test_block = block
    def [](name) = Struct.new(:opt_bin).new(Pathname("/opt/homebrew/opt/#{name}/bin"))
  end

  class Bin < Pathname
    def install_symlink(target) = ($ran << ["symlink", target.to_s])
  end

  def prefix = Pathname("/opt/homebrew/Cellar/mlx-serve/0.1.0")
  def libexec = prefix/"libexec"
  def bin = Bin.new(prefix/"bin")
  def system(*arguments) = ($ran << arguments.map(&:to_s))

  def generate_completions_from_executable(program, shell_parameter_format:)
    $ran << ["completions", program.to_s, shell_parameter_format.to_s]
  end
end

class Service
  attr_reader :said

  %i[run keep_alive throttle_interval process_type environment_variables log_path error_log_path].each do |name|
    define_method(name) { |value = nil, **values| (@said ||= {})[name] = value || values }
  end

  def opt_bin = Pathname("/opt/homebrew/opt/mlx-serve/bin")
  def var = Pathname("/opt/homebrew/var")
  def std_service_path_env = "/opt/homebrew/bin:/usr/bin:/bin"
end

$ran = []
load ARGV.fetch(0)
MlxServe.new.install
service = Service.new
service.instance_eval(&MlxServe.service_block)
puts JSON.generate(
  said: MlxServe.said, ran: $ran, env: ENV.fetch("UV_PYTHON_DOWNLOADS"), service: service.said,
  tested: !MlxServe.test_block.nil?
)
